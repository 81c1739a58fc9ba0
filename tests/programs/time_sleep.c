// nanosleep, clock_nanosleep relative and absolute on several clocks, usleep, sleep interrupted.
#include "check.h"

static void on(int s) { (void)s; }

int main(void) {
    int64_t a = now_ns();
    struct timespec t = {0, 5000000};
    OK(nanosleep(&t, NULL));
    CHECK(now_ns() - a >= 5000000);
    a = now_ns();
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL) == 0);
    CHECK(now_ns() - a >= 5000000);
    int64_t until = now_ns() + 8000000;
    t = (struct timespec){until / 1000000000, until % 1000000000};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
    CHECK(now_ns() >= until);
    printf("late by %lld ns\n", (long long)(now_ns() - until));
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec -= 3;
    CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == 0);
    t = (struct timespec){0, 1000000001};
    FAILS(nanosleep(&t, NULL), EINVAL);
    CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL) == EINVAL);
    t = (struct timespec){0, 1};
    for (int i = 0; i < 20; i++) OK(nanosleep(&t, NULL));
    signal(SIGALRM, on);
    ualarm(5000, 0);
    struct timespec rest;
    t = (struct timespec){50, 0};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &rest) == EINTR && rest.tv_sec == 49);
    ualarm(5000, 0);
    unsigned left = sleep(20);
    CHECK(left == 19 || left == 20);
    printf("rest %ld\n", rest.tv_nsec);
    return 0;
}
