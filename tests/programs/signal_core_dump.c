// A child that dies of SIGSEGV, SIGABRT, SIGFPE or SIGILL: WCOREDUMP follows the core limit, siginfo says CLD_DUMPED or CLD_KILLED.
#include "check.h"
#include <sys/prctl.h>

static void die(int how) {
    volatile int zero = 0;
    if (how == 0) *(volatile int *)8 = 1;
    if (how == 1) abort();
    if (how == 2) zero = 7 / zero;
    if (how == 3) __builtin_trap();
}

int main(void) {
    const int sigs[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL};
    for (int how = 0; how < 8; how++) {
        pid_t child = OK(fork());
        if (child == 0) {
            struct rlimit r = {0, 0};
            setrlimit(RLIMIT_CORE, &r);
            if (how >= 4) prctl(PR_SET_DUMPABLE, 0);
            die(how % 4);
            _exit(99);
        }
        siginfo_t si;
        OK(waitid(P_PID, child, &si, WEXITED));
        CHECK(si.si_status == sigs[how % 4]);
        CHECK(si.si_code == CLD_KILLED || si.si_code == CLD_DUMPED);
        printf("child %d died of %d\n", child, si.si_status);
    }
    return 0;
}
