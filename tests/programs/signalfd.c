// signalfd: reading siginfo of kill, sigqueue and a child's end; several at once; changing the mask; poll.
#include "check.h"
#include <poll.h>
#include <sys/signalfd.h>

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGRTMIN + 1);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    int fd = OK(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo si[8];
    FAILS(read(fd, si, sizeof si), EAGAIN);
    FAILS(read(fd, si, 10), EINVAL);
    OK(kill(getpid(), SIGUSR1));
    OK(kill(getpid(), SIGUSR1));
    union sigval v = {.sival_int = (int)noise_u32()};
    for (int i = 0; i < 3; i++) {
        OK(sigqueue(getpid(), SIGRTMIN + 1, v));
        v.sival_int++;
    }
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 1000) == 1);
    CHECK(read(fd, si, sizeof si) == 4 * sizeof *si);
    CHECK(si[0].ssi_signo == SIGUSR1 && si[0].ssi_pid == (unsigned)getpid() && si[0].ssi_code == SI_USER);
    for (int i = 1; i < 4; i++) CHECK(si[i].ssi_signo == (unsigned)SIGRTMIN + 1 && si[i].ssi_code == SI_QUEUE && si[i].ssi_int == v.sival_int - 4 + i);
    OK(fcntl(fd, F_SETFL, 0));
    pid_t c = OK(fork());
    if (c == 0) _exit(23);
    CHECK(read(fd, si, sizeof si) == sizeof *si);
    CHECK(si[0].ssi_signo == SIGCHLD && si[0].ssi_pid == (unsigned)c && si[0].ssi_status == 23 && si[0].ssi_code == CLD_EXITED);
    wait_exit(c, 23);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    CHECK(signalfd(fd, &set, 0) == fd);
    raise(SIGUSR1);
    raise(SIGUSR2);
    CHECK(read(fd, si, sizeof si) == sizeof *si && si[0].ssi_signo == SIGUSR2);
    printf("child %d value %08x\n", c, v.sival_int);
    return 0;
}
