// pidfd: open, poll, waitid(P_PIDFD), pidfd_send_signal, pidfd_getfd, CLONE_PIDFD through clone3.
#include "check.h"
#include <linux/sched.h>
#include <poll.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int main(void) {
    int go[2];
    OK(pipe(go));
    pid_t c = OK(fork());
    if (c == 0) {
        char b;
        CHECK(read(go[0], &b, 1) == 1);
        _exit(17);
    }
    int fd = OK((int)syscall(SYS_pidfd_open, c, 0));
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 0);
    OK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    siginfo_t si = {0};
    OK(waitid(P_PIDFD, fd, &si, WEXITED | WNOHANG));
    CHECK(si.si_pid == 0);
    write_all(go[1], "g", 1);
    CHECK(poll(&p, 1, 5000) == 1 && p.revents == POLLIN);
    OK(waitid(P_PIDFD, fd, &si, WEXITED));
    CHECK(si.si_pid == c && si.si_status == 17);
    FAILS(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0), ESRCH);
    FAILS(waitid(P_PIDFD, fd, &si, WEXITED), ECHILD);
    FAILS(syscall(SYS_pidfd_open, 0x3ffffff, 0), ESRCH);

    int got = -1;
    struct clone_args a = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&got, .exit_signal = SIGCHLD};
    long k = syscall(SYS_clone3, &a, sizeof a);
    if (k == -1) CHECK(errno == ENOSYS);
    else {
        if (k == 0) {
            int secret = open("secret", O_CREAT | O_RDWR, 0600);
            dup2(secret, 77);
            write(secret, "s3", 2);
            write(go[1], "h", 1);
            for (;;) pause();
        }
        char b;
        CHECK(read(go[0], &b, 1) == 1 && b == 'h');
        CHECK(got > 2);
        int stolen = syscall(SYS_pidfd_getfd, got, 77, 0);
        if (stolen == -1) CHECK(errno == EPERM || errno == ENOSYS);
        else {
            char s[2];
            CHECK(pread(stolen, s, 2, 0) == 2 && memcmp(s, "s3", 2) == 0);
            FAILS(syscall(SYS_pidfd_getfd, got, 999, 0), EBADF);
        }
        OK(syscall(SYS_pidfd_send_signal, got, SIGKILL, NULL, 0));
        OK(waitid(P_PIDFD, got, &si, WEXITED));
        CHECK(si.si_pid == k && si.si_code == CLD_KILLED && si.si_status == SIGKILL);
        printf("clone3 %ld got fd %d\n", k, stolen);
    }
    printf("child %d pidfd %d\n", c, fd);
    return 0;
}
