// Real-time signals: lowest number first, queued in order with their values; ordinary signals are not queued; sigwaitinfo, sigtimedwait.
#include "check.h"

static int got[64], n;
static void on(int s, siginfo_t *si, void *uc) {
    (void)uc;
    got[n++] = (s - SIGRTMIN) * 100 + si->si_value.sival_int;
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < 3; i++) {
        sigaddset(&set, SIGRTMIN + i);
        handle(SIGRTMIN + i, on, 0);
        struct sigaction sa;
        OK(sigaction(SIGRTMIN + i, NULL, &sa));
        sigfillset(&sa.sa_mask);
        OK(sigaction(SIGRTMIN + i, &sa, NULL));
    }
    sigaddset(&set, SIGUSR1);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    for (int k = 0; k < 3; k++)
        for (int i = 2; i >= 0; i--) OK(sigqueue(getpid(), SIGRTMIN + i, (union sigval){.sival_int = k}));
    sigset_t rt = set;
    sigdelset(&rt, SIGUSR1);
    OK(sigprocmask(SIG_UNBLOCK, &rt, NULL));
    int want[] = {0, 1, 2, 100, 101, 102, 200, 201, 202};
    CHECK(n == 9 && memcmp(got, want, sizeof want) == 0);

    OK(sigprocmask(SIG_BLOCK, &rt, NULL));
    int v = noise_u32();
    OK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = v}));
    siginfo_t si;
    CHECK(sigwaitinfo(&rt, &si) == SIGRTMIN + 1 && si.si_value.sival_int == v && si.si_pid == getpid());
    struct timespec t = {0, 10000000};
    FAILS(sigtimedwait(&rt, &si, &t), EAGAIN);
    pid_t me = getpid(), c = OK(fork());
    if (c == 0) {
        sleep_us(5000);
        OK(sigqueue(me, SIGRTMIN, (union sigval){.sival_int = getpid()}));
        _exit(0);
    }
    int sig;
    OK0(sigwait(&rt, &sig));
    CHECK(sig == SIGRTMIN);
    wait_exit(c, 0);
    raise(SIGUSR1);
    raise(SIGUSR1);
    CHECK(sigwaitinfo(&set, &si) == SIGUSR1);
    FAILS(sigtimedwait(&set, &si, &t), EAGAIN);
    // sigsuspend: the mask only during the call.
    n = 0;
    OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 7}));
    sigset_t none;
    sigemptyset(&none);
    FAILS(sigsuspend(&none), EINTR);
    CHECK(n == 1 && got[0] == 7);
    printf("value %08x child %d\n", v, c);
    return 0;
}
