// A timer that is faster than signals can be handled, natively and all the more when each of them is a stop: the
// program gets on nevertheless.
#include "check.h"

static volatile int count;
static timer_t timer;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    CHECK(info->si_code == SI_TIMER);
    if (++count == 30) {
        struct itimerspec off = {};
        OK(timer_settime(timer, 0, &off, NULL));
    }
}

static void round_of(int sig, long ns) {
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    OK(sigaction(sig, &act, NULL));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig};
    OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    count = 0;
    struct itimerspec fast = {.it_interval.tv_nsec = ns, .it_value.tv_nsec = ns};
    OK(timer_settime(timer, 0, &fast, NULL));
    unsigned long loops = 0, calls = 0;
    while (count < 30) {
        loops++;
        if (loops % 1000 == 0) calls += getppid() != 0;
    }
    OK(timer_delete(timer));
    printf("signal %d: %lu loops %lu calls\n", sig, loops, calls);
}

int main(void) {
    round_of(SIGRTMIN + 1, 1000);
    round_of(SIGALRM, 1000);
    round_of(SIGRTMIN + 2, 20000);
    return 0;
}
