// fork, wait4 with rusage, waitid with every selector and option, WNOHANG, WNOWAIT, ECHILD, status words.
#include "check.h"

int main(void) {
    int status;
    FAILS(waitpid(-1, &status, 0), ECHILD);
    int p[2];
    OK(pipe(p));
    pid_t parent = getpid();
    pid_t child = OK(fork());
    if (child == 0) {
        CHECK(getppid() == parent);
        char c;
        CHECK(read(p[0], &c, 1) == 1);
        for (volatile int i = 0; i < 1000000; i++) {}
        _exit(7);
    }
    CHECK(waitpid(child, &status, WNOHANG) == 0);
    siginfo_t si;
    memset(&si, 1, sizeof si);
    OK(waitid(P_ALL, 0, &si, WEXITED | WNOHANG));
    CHECK(si.si_pid == 0);
    write_all(p[1], "g", 1);
    OK(waitid(P_PID, child, &si, WEXITED | WNOWAIT));
    CHECK(si.si_pid == child && si.si_code == CLD_EXITED && si.si_status == 7);
    OK(waitid(P_PGID, getpgid(0), &si, WEXITED | WNOWAIT));
    CHECK(si.si_pid == child);
    struct rusage ru;
    CHECK(wait4(child, &status, 0, &ru) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    printf("child %d user time %ld us, faults %ld\n", child, (long)ru.ru_utime.tv_usec, ru.ru_minflt);
    FAILS(waitpid(child, &status, 0), ECHILD);
    FAILS(waitid(P_PID, child, &si, WEXITED), ECHILD);
    FAILS(waitpid(-1, &status, 0x40000), EINVAL);

    pid_t a = OK(fork());
    if (a == 0) { for (;;) pause(); }
    pid_t b = OK(fork());
    if (b == 0) _exit(3);
    CHECK(wait(&status) == b && WEXITSTATUS(status) == 3);
    OK(kill(a, SIGKILL));
    CHECK(waitpid(0, &status, 0) == a && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct rusage all;
    OK(getrusage(RUSAGE_CHILDREN, &all));
    printf("children had %ld faults\n", all.ru_minflt);
    return 0;
}
