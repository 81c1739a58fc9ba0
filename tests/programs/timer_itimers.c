// Interval timers: real, virtual, profiling; getitimer; alarm; ualarm; what one setting replaces.
#include "check.h"

static volatile int alrm, vt, prof;
static void on(int s) {
    if (s == SIGALRM) alrm++;
    if (s == SIGVTALRM) vt++;
    if (s == SIGPROF) prof++;
}

int main(void) {
    signal(SIGALRM, on);
    signal(SIGVTALRM, on);
    signal(SIGPROF, on);
    struct itimerval it = {{0, 5000}, {0, 5000}}, old;
    OK(setitimer(ITIMER_REAL, &it, NULL));
    OK(getitimer(ITIMER_REAL, &old));
    CHECK(old.it_interval.tv_usec == 5000 && old.it_value.tv_usec <= 5000);
    while (alrm < 3) pause();
    it = (struct itimerval){{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &it, &old));
    printf("left %ld\n", (long)old.it_value.tv_usec);
    it = (struct itimerval){{0, 4000}, {0, 4000}};
    OK(setitimer(ITIMER_VIRTUAL, &it, NULL));
    OK(setitimer(ITIMER_PROF, &it, NULL));
    volatile long n = 0;
    int64_t start = now_ns();
    while ((vt < 2 || prof < 2) && now_ns() - start < 5000000000) for (int i = 0; i < 10000; i++) n++;
    CHECK(vt >= 2 && prof >= 2);
    it = (struct itimerval){{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_VIRTUAL, &it, NULL));
    OK(setitimer(ITIMER_PROF, &it, NULL));
    CHECK(alarm(100) == 0);
    unsigned left = alarm(0);
    CHECK(left == 100 || left == 99);
    alrm = 0;
    ualarm(3000, 0);
    while (!alrm) pause();
    FAILS(setitimer(99, &it, NULL), EINVAL);
    pid_t c = OK(fork());
    if (c == 0) {
        alarm(0);
        OK(getitimer(ITIMER_REAL, &old));
        CHECK(old.it_value.tv_usec == 0);
        signal(SIGALRM, SIG_DFL);
        ualarm(2000, 0);
        for (;;) pause();
    }
    wait_signal(c, SIGALRM);
    printf("counted %ld\n", n);
    return 0;
}
