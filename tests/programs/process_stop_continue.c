// SIGSTOP and SIGCONT between processes: WUNTRACED, WCONTINUED, WSTOPPED by waitid, SIGCHLD with its codes, SA_NOCLDSTOP, SA_NOCLDWAIT.
#include "check.h"

static volatile int codes[10], n;
static void on_chld(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    if (n < 10) codes[n++] = si->si_code;
}

int main(void) {
    handle(SIGCHLD, on_chld, SA_RESTART);
    int go[2];
    char b;
    OK(pipe(go));
    pid_t c = OK(fork());
    if (c == 0) {
        raise(SIGSTOP);
        CHECK(read(go[0], &b, 1) == 1);
        raise(SIGSTOP);
        _exit(14);
    }
    int status;
    siginfo_t si;
    CHECK(waitpid(c, &status, WUNTRACED) == c && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(waitpid(c, &status, WUNTRACED | WNOHANG) == 0);
    OK(kill(c, SIGCONT));
    CHECK(waitpid(c, &status, WCONTINUED) == c && WIFCONTINUED(status));
    write_all(go[1], "g", 1);
    OK(waitid(P_PID, c, &si, WSTOPPED | WNOWAIT));
    CHECK(si.si_code == CLD_STOPPED && si.si_status == SIGSTOP);
    OK(waitid(P_PID, c, &si, WSTOPPED));
    OK(kill(c, SIGCONT));
    OK(waitid(P_PID, c, &si, WCONTINUED | WEXITED));
    CHECK(si.si_code == CLD_CONTINUED || si.si_code == CLD_EXITED);
    if (si.si_code == CLD_CONTINUED) wait_exit(c, 14);
    CHECK(n >= 2 && codes[0] == CLD_STOPPED);
    printf("child %d, %d notices\n", c, n);

    handle(SIGCHLD, on_chld, SA_RESTART | SA_NOCLDSTOP);
    n = 0;
    c = OK(fork());
    if (c == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    CHECK(waitpid(c, &status, WUNTRACED) == c && WIFSTOPPED(status));
    OK(kill(c, SIGCONT));
    wait_exit(c, 0);
    for (int i = 0; i < n; i++) CHECK(codes[i] == CLD_EXITED);

    // A stopped process dies of SIGKILL at once, other signals wait for SIGCONT.
    c = OK(fork());
    if (c == 0) for (;;) pause();
    OK(kill(c, SIGSTOP));
    CHECK(waitpid(c, &status, WUNTRACED) == c);
    OK(kill(c, SIGTERM));
    sleep_us(2000);
    CHECK(waitpid(c, &status, WNOHANG) == 0);
    OK(kill(c, SIGCONT));
    wait_signal(c, SIGTERM);

    signal(SIGCHLD, SIG_IGN); // children vanish by themselves
    c = OK(fork());
    if (c == 0) _exit(1);
    FAILS(waitpid(c, &status, 0), ECHILD);
    return 0;
}
