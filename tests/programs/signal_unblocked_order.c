// Several signals that wait are let through at once: the kernel stacks a frame for each, synchronous ones first, then by number, so that the last one's handler runs first.
#include "check.h"
#include <ucontext.h>

static int order[16];
static volatile int n;

static void on(int sig, siginfo_t *info, void *context) {
    (void)info, (void)context;
    order[n++] = sig;
    // A place to stop at, within the handler.
    getppid();
}

static void told(const char *what) {
    printf("%s:", what);
    for (int i = 0; i < n; i++) printf(" %d", order[i]);
    printf("\n");
}

static const int sigs[] = {SIGUSR2, SIGHUP, SIGSEGV, SIGTERM, SIGUSR1, SIGBUS};
static const int wanted[] = {SIGTERM, SIGUSR2, SIGUSR1, SIGHUP, SIGSEGV, SIGBUS};

static void check(const char *what) {
    told(what);
    CHECK(n == 6 && memcmp(order, wanted, sizeof wanted) == 0);
    n = 0;
}

static void send_all(void) {
    for (int i = 0; i < 6; i++) OK(syscall(SYS_tgkill, getpid(), getpid(), sigs[i]));
}

static void on_alarm(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    send_all();
    // The return lets them all through.
    sigemptyset(&((ucontext_t *)context)->uc_sigmask);
}

int main(void) {
    sigset_t all, none;
    sigemptyset(&none);
    sigfillset(&all);
    for (int i = 0; i < 6; i++) handle(sigs[i], on, 0);
    OK(sigprocmask(SIG_BLOCK, &all, NULL));
    send_all();
    OK(sigprocmask(SIG_SETMASK, &none, NULL));
    check("sigprocmask");

    // Real-time ones by their number, each as often as it was sent.
    handle(SIGRTMIN, on, 0);
    handle(SIGRTMIN + 1, on, 0);
    OK(sigprocmask(SIG_BLOCK, &all, NULL));
    for (int i = 0; i < 4; i++) OK(sigqueue(getpid(), SIGRTMIN + (i & 1), (union sigval){.sival_int = i}));
    OK(sigprocmask(SIG_SETMASK, &none, NULL));
    told("real time");
    CHECK(n == 4 && order[0] == SIGRTMIN + 1);
    n = 0;

    OK(sigprocmask(SIG_BLOCK, &all, NULL));
    send_all();
    FAILS(sigsuspend(&none), EINTR);
    OK(sigprocmask(SIG_SETMASK, &none, NULL));
    check("sigsuspend");

    handle(SIGALRM, on_alarm, 0);
    struct sigaction sa;
    OK(sigaction(SIGALRM, NULL, &sa));
    sigfillset(&sa.sa_mask);
    OK(sigaction(SIGALRM, &sa, NULL));
    OK(raise(SIGALRM));
    check("sigreturn");
    return 0;
}
