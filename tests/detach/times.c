// Runs until it is told to end (SIGTERM): threads that ask for the time all the time, in each of which a timer's handler takes some milliseconds now and then: mostly it has interrupted a function of the vDSO, and returns there. Writes a number each time all of them have gone on.
// With "alone" one thread asks for some time, and the program ends by itself. Static, so that nothing comes to lie beside the vDSO.
// cflags: -O1 -static -pthread
#define _GNU_SOURCE
#include "../programs/check.h"
#include <poll.h>
#include <sys/syscall.h>

enum { THREADS = 3 };
static volatile unsigned long handlers[THREADS], times[THREADS];
static __thread int own;

static void on_timer(int signal) {
    int before = errno;
    CHECK(signal == SIGALRM);
    poll(0, 0, 4);
    errno = before;
    handlers[own]++;
}

static void *asks(void *arg) {
    own = (long)arg;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    event._sigev_un._tid = syscall(SYS_gettid);
    timer_t timer;
    OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec every = {{0, 25000000 + 1000000 * own}, {0, 25000000}};
    OK(timer_settime(timer, 0, &every, 0));
    struct timespec before = {0, 0}, now, late;
    for (;;) {
        struct timeval day;
        OK(clock_gettime(CLOCK_MONOTONIC, &now));
        OK(gettimeofday(&day, 0));
        OK(clock_gettime(CLOCK_REALTIME, &late));
        CHECK(day.tv_usec >= 0 && day.tv_usec < 1000000 && late.tv_sec >= day.tv_sec);
        CHECK(now.tv_sec > before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec >= before.tv_nsec));
        before = now;
        times[own]++;
    }
    return 0;
}

static int alone(void) {
    struct timespec begin, now;
    struct timeval day;
    OK(clock_gettime(CLOCK_MONOTONIC, &begin));
    do {
        OK(gettimeofday(&day, 0));
        // The clock of time(2) is a tick behind.
        CHECK(time(0) >= day.tv_sec - 1);
        usleep(2000);
        OK(clock_gettime(CLOCK_MONOTONIC, &now));
    } while (now.tv_sec < begin.tv_sec + 3);
    printf("all is well\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "alone") == 0) return alone();
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    OK(pthread_sigmask(SIG_BLOCK, &end, 0));
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    OK(sigaction(SIGALRM, &action, 0));
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, asks, (void *)i);
    unsigned long seen[THREADS] = {0}, asked[THREADS] = {0}, rounds = 0;
    for (;;) {
        struct timespec tick = {0, 5000000};
        if (sigtimedwait(&end, 0, &tick) == SIGTERM) break;
        int all = 1;
        for (int i = 0; i < THREADS; i++) all &= handlers[i] != seen[i] && times[i] != asked[i];
        if (!all) continue;
        for (int i = 0; i < THREADS; i++) seen[i] = handlers[i], asked[i] = times[i];
        printf("%lu\n", ++rounds);
        fflush(stdout);
    }
    printf("told to end\n");
    return 0;
}
