// What a pidfd says of a process that has ended, its parent may count on: it can be waited for at once.
#include "check.h"
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(void) {
    for (int i = 0; i < 200; i++) {
        pid_t pid = OK(fork());
        if (pid == 0) _exit(i & 7);
        int fd = OK((int)syscall(SYS_pidfd_open, pid, 0));
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        CHECK(OK(poll(&ready, 1, -1)) == 1);
        if (i % 2) {
            siginfo_t info = {0};
            OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT));
            CHECK(info.si_pid == pid && info.si_code == CLD_EXITED && info.si_status == (i & 7));
        }
        int status;
        if (i % 4 == 0) {
            // A pidfd that does not block makes the wait one that does not, either.
            OK(fcntl(fd, F_SETFL, O_NONBLOCK));
            siginfo_t info = {0};
            OK(waitid(3 /* P_PIDFD */, fd, &info, WEXITED));
            CHECK(info.si_pid == pid && info.si_status == (i & 7));
            OK(close(fd));
            continue;
        }
        CHECK(waitpid(pid, &status, WNOHANG) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (i & 7));
        OK(close(fd));
    }
    noise("end");
    return 0;
}
