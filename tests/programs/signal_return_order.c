// What waits behind a blocked signal comes when its handler returns, before the handler that this one had interrupted at its first instruction goes on.
#include "check.h"

static volatile int order[64], n;

static void on(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (n < 64) order[n++] = (sig == SIGUSR1 ? 0 : sig - SIGRTMIN + 1) * 10 + info->si_value.sival_int;
}

int main(void) {
    sigset_t all, before;
    sigfillset(&all);
    handle(SIGUSR1, on, 0);
    for (int i = 0; i < 3; i++) handle(SIGRTMIN + i, on, 0);
    for (int round = 0; round < 3; round++) {
        n = 0;
        OK(sigprocmask(SIG_BLOCK, &all, &before));
        for (int value = 0; value < 4; value++)
            for (int i = 2; i >= 0; i--)
                OK(sigqueue(getpid(), SIGRTMIN + i, (union sigval){.sival_int = value}));
        OK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 5}));
        OK(sigprocmask(SIG_SETMASK, &before, NULL));
        for (int i = 0; i < n; i++) printf("%d ", order[i]);
        printf("\n");
        // A frame for each signal, of which the last runs first; a second one of its kind comes when it
        // returns.
        CHECK(n == 13 && order[12] == 5);
        for (int i = 0; i < 12; i++) CHECK(order[i] == (3 - i / 4) * 10 + i % 4);
    }
    noise("end");
}
