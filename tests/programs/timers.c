// Interval timers, timerfd and POSIX timers fire into two computing threads; where they hit is the output.
// cflags: -pthread -lrt
#include "../programs/check.h"
#include <sys/timerfd.h>

static volatile uint64_t x[2];
static volatile uint32_t places;
static volatile int hits, stop;

static void on(int s) {
    places = places * 31 + (uint32_t)(x[0] + x[1]) + s;
    hits++;
}

static void *work(void *arg) {
    long me = (long)arg;
    while (!stop) x[me] = x[me] * 6364136223846793005ull + 1442695040888963407ull;
    return NULL;
}

int main(void) {
    signal(SIGALRM, on);
    signal(SIGRTMIN, on);
    pthread_t t[2];
    for (long i = 0; i < 2; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    struct itimerval it = {{0, 3000}, {0, 3000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    timer_t pt;
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    OK(timer_create(CLOCK_MONOTONIC, &se, &pt));
    struct itimerspec is = {{0, 4000000}, {0, 4000000}};
    OK(timer_settime(pt, 0, &is, NULL));
    int fd = OK(timerfd_create(CLOCK_MONOTONIC, 0));
    is = (struct itimerspec){{0, 5000000}, {0, 5000000}};
    OK(timerfd_settime(fd, 0, &is, NULL));
    uint64_t ticks = 0, v;
    while (ticks < 8) {
        ssize_t n = read(fd, &v, 8);
        if (n == 8) ticks += v;
        else CHECK(errno == EINTR);
    }
    it = (struct itimerval){{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    OK(timer_delete(pt));
    stop = 1;
    for (int i = 0; i < 2; i++) OK0(pthread_join(t[i], NULL));
    printf("%d hits, places %08x, ticks %llu, x %llx %llx\n", hits, places, (unsigned long long)ticks, (unsigned long long)x[0], (unsigned long long)x[1]);
    return 0;
}
