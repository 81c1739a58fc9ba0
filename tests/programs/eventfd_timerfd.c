// eventfd (counter, semaphore, non-blocking, between threads) and timerfd (one shot, interval, absolute, gettime, cancel).
// cflags: -pthread
#include "check.h"
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static int ev;
static void *adder(void *arg) {
    (void)arg;
    for (int i = 1; i <= 100; i++) OK(eventfd_write(ev, i));
    return NULL;
}

int main(void) {
    uint64_t v;
    int s = OK(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
    for (int i = 0; i < 3; i++) CHECK(read(s, &v, 8) == 8 && v == 1);
    FAILS(read(s, &v, 8), EAGAIN);
    v = UINT64_MAX - 1;
    CHECK(write(s, &v, 8) == 8);
    FAILS(write(s, &v, 8), EAGAIN);
    v = UINT64_MAX;
    FAILS(write(s, &v, 8), EINVAL);
    FAILS(read(s, &v, 4), EINVAL);

    ev = OK(eventfd(0, EFD_CLOEXEC));
    pthread_t t;
    OK0(pthread_create(&t, NULL, adder, NULL));
    uint64_t sum = 0;
    int reads = 0;
    while (sum < 5050) {
        OK(eventfd_read(ev, &v));
        sum += v;
        reads++;
    }
    CHECK(sum == 5050);
    OK0(pthread_join(t, NULL));
    printf("%d reads\n", reads);

    int tf = OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    FAILS(read(tf, &v, 8), EAGAIN);
    struct itimerspec it = {{0, 0}, {0, 10000000}}, old;
    OK(timerfd_settime(tf, 0, &it, NULL));
    OK(timerfd_gettime(tf, &old));
    CHECK(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 10000000 && old.it_interval.tv_nsec == 0);
    OK(fcntl(tf, F_SETFL, 0));
    CHECK(read(tf, &v, 8) == 8 && v == 1);
    it = (struct itimerspec){{0, 2000000}, {0, 1000000}};
    OK(timerfd_settime(tf, 0, &it, NULL));
    sum = 0;
    while (sum < 10) {
        CHECK(read(tf, &v, 8) == 8 && v >= 1);
        sum += v;
    }
    it = (struct itimerspec){{0, 0}, {0, 0}};
    OK(timerfd_settime(tf, 0, &it, &old));
    CHECK(old.it_interval.tv_nsec == 2000000);
    printf("ticks %lu, left %ld\n", (unsigned long)sum, old.it_value.tv_nsec);

    int rt = OK(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC));
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    it = (struct itimerspec){{0, 0}, now};
    it.it_value.tv_sec -= 5;
    OK(timerfd_settime(rt, TFD_TIMER_ABSTIME, &it, NULL));
    CHECK(read(rt, &v, 8) == 8 && v == 1); // in the past: at once
    FAILS(timerfd_create(9999, 0), EINVAL);
    FAILS(timerfd_settime(ev, 0, &it, NULL), EINVAL);
    return 0;
}
