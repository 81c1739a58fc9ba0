// Signals on their way to a tracee: let through, suppressed, replaced, given another siginfo; masks read and set; faults taken by the tracer; sigwait and signalfd beside it.
#include "ptrace.h"
#include <sys/signalfd.h>

static volatile int seen[65], values;
static void on_any(int sig, siginfo_t *si, void *u) { (void)u; seen[sig]++; if (si->si_code == SI_QUEUE) values += si->si_value.sival_int; }

static void child(void) {
    traceme_or_exit();
    for (int s = 1; s < 32; s++) if (s != SIGKILL && s != SIGSTOP && s != SIGCHLD) handle(s, on_any, 0);
    raise(SIGSTOP);
    raise(SIGUSR1);             // let through
    raise(SIGUSR2);             // suppressed
    raise(SIGHUP);              // becomes SIGTERM
    raise(SIGALRM);             // with another siginfo
    raise(SIGWINCH);            // seen though ignored by default, let through
    CHECK(seen[SIGUSR1] == 1 && seen[SIGUSR2] == 0 && seen[SIGHUP] == 0 && seen[SIGTERM] == 1);
    CHECK(seen[SIGALRM] == 1 && values == 42);
    // The tracer unblocks it.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGIO);
    CHECK(seen[SIGIO] == 0);
    raise(SIGSTOP);
    CHECK(seen[SIGIO] == 1);
    sigset_t now;
    OK(sigprocmask(SIG_SETMASK, NULL, &now));
    CHECK(!sigismember(&now, SIGIO) && sigismember(&now, SIGPROF));
    // A fault, repaired by the tracer, and one that goes to the handler.
    volatile int *bad = (int *)16;
    int value;
    __asm__ volatile("movl (%1), %0" : "=r"(value) : "D"(bad));
    CHECK(value == 1234);
    handle(SIGSEGV, on_any, SA_RESETHAND);
    *(volatile int *)24 = 1;    // once to the handler, then deadly
    _exit(1);
}

int main(void) {
    static int word = 1234;
    // SIGCHLD, caught, for every stop.
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    OK(sigprocmask(SIG_BLOCK, &chld, NULL));
    pid_t c = OK(fork());
    if (c == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        OK(sigprocmask(SIG_UNBLOCK, &chld, NULL));
        word = 1234;
        child();
    }
    siginfo_t si;
    CHECK(sigwaitinfo(&chld, &si) == SIGCHLD);
    if (si.si_code == CLD_EXITED) SKIP("already traced, cannot trace");
    CHECK(si.si_pid == c && si.si_code == CLD_TRAPPED && si.si_status == SIGSTOP);
    siginfo_t wi = {0};
    OK(waitid(P_PID, c, &wi, WSTOPPED | WNOWAIT));
    CHECK(wi.si_pid == c && wi.si_code == CLD_TRAPPED && wi.si_status == SIGSTOP && wi.si_signo == SIGCHLD);
    STOPS(c, SIGSTOP);
    int status, asked = 0, order = 0, faults = 0;
    CHECK(waitpid(c, &status, WNOHANG) == 0);
    int sig = 0;
    for (;;) {
        OK(ptrace(PTRACE_CONT, c, 0, sig));
        CHECK(waitpid(c, &status, 0) == c);
        if (!WIFSTOPPED(status)) break;
        OK(ptrace(PTRACE_GETSIGINFO, c, 0, &si));
        sig = WSTOPSIG(status);
        CHECK(si.si_signo == sig);
        order = order * 31 + sig;
        struct user_regs_struct r = regs_of(c);
        switch (sig) {
        case SIGUSR2: sig = 0; break;
        case SIGHUP: sig = SIGTERM; break;
        case SIGALRM:
            CHECK(si.si_code == SI_TKILL && si.si_pid == c);
            si.si_code = SI_QUEUE;
            si.si_value.sival_int = 42;
            OK(ptrace(PTRACE_SETSIGINFO, c, 0, &si));
            break;
        case SIGSTOP: {
            uint64_t mask;
            OK(ptrace(PTRACE_GETSIGMASK, c, 8, &mask));
            CHECK(mask == 1ull << (SIGIO - 1));
            mask = 1ull << (SIGPROF - 1);
            OK(ptrace(PTRACE_SETSIGMASK, c, 8, &mask));
            sig = 0;
            asked++;
            break;
        }
        case SIGSEGV:
            faults++;
            CHECK(si.si_code == SEGV_MAPERR);
            printf("fault at %llx on %p\n", r.rip, si.si_addr);
            if (si.si_addr == (void *)16) {
                r.rdi = (uintptr_t)&word;
                OK(ptrace(PTRACE_SETREGS, c, 0, &r));
                sig = 0;
            }
            break;
        }
    }
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    printf("order %d, %d faults\n", order, faults);
    CHECK(asked == 1 && faults == 3);

    // A blocking wait that a signal interrupts, with a tracee about.
    handle(SIGALRM, on_any, 0);
    c = OK(fork());
    if (c == 0) { traceme_or_exit(); raise(SIGSTOP); for (;;) pause(); }
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    struct itimerval it = {{0, 0}, {0, 10000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    FAILS(waitpid(c, &status, 0), EINTR);
    CHECK(seen[SIGALRM] == 1);
    // And a signalfd that hears of the stop.
    while (sigtimedwait(&chld, &si, &(struct timespec){0, 0}) > 0) {}
    int fd = OK(signalfd(-1, &chld, SFD_CLOEXEC));
    OK(kill(c, SIGUSR1));
    struct signalfd_siginfo fi;
    CHECK(read(fd, &fi, sizeof fi) == sizeof fi && fi.ssi_signo == SIGCHLD && (pid_t)fi.ssi_pid == c);
    CHECK(fi.ssi_code == CLD_TRAPPED);
    STOPS(c, SIGUSR1);
    OK(ptrace(PTRACE_KILL, c, 0, 0));
    wait_signal(c, SIGKILL);
    return 0;
}
