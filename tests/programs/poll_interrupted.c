// poll and select that a signal interrupts: what they leave in the structures that they were given, also where it differs from
// what was there; alone, and with another thread that does the same.
// cflags: -pthread
#include "check.h"
#include <poll.h>
#include <sys/select.h>

static volatile sig_atomic_t hits;
static int fds[2];
static void on(int s) {
    (void)s;
    hits++;
}

static void arm(void) {
    struct itimerval t = {{0, 20000}, {0, 3000}}; // again, if the call had not begun
    OK(setitimer(ITIMER_REAL, &t, NULL));
}

static void rounds(int n) {
    for (int i = 0; i < n; i++) {
        struct pollfd p[3] = {{fds[0], POLLIN, POLLHUP | POLLIN}, {-1, POLLIN, noise_u32()}, {-5, 0, POLLNVAL}};
        arm();
        FAILS(poll(p, 3, -1), EINTR);
        CHECK(p[0].revents == 0 && p[1].revents == 0 && p[2].revents == 0);
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fds[0], &set);
        struct timeval t = {5, noise_u32() % 1000};
        arm();
        FAILS(select(fds[0] + 1, &set, NULL, NULL, &t), EINTR);
        CHECK(t.tv_sec < 5 || t.tv_usec < 1000);
        struct timespec left = {5, 0};
        arm();
        FAILS(nanosleep(&left, &left), EINTR);
        CHECK(left.tv_sec == 4);
        printf("left %ld %ld\n", (long)t.tv_usec, left.tv_nsec);
    }
}

static void *work(void *arg) {
    rounds(5);
    return arg;
}

static void *idle(void *arg) {
    sigset_t all;
    sigfillset(&all);
    OK0(pthread_sigmask(SIG_BLOCK, &all, NULL));
    char c;
    CHECK(read(fds[0], &c, 1) == 1);
    return arg;
}

int main(void) {
    struct sigaction a = {.sa_handler = on};
    OK(sigaction(SIGALRM, &a, NULL));
    OK(pipe(fds));
    rounds(10);
    pthread_t t;
    OK0(pthread_create(&t, NULL, idle, NULL));
    work(NULL);
    CHECK(write(fds[1], "x", 1) == 1);
    OK0(pthread_join(t, NULL));
    struct itimerval none = {{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &none, NULL));
    CHECK(hits >= 45);
    noise("end");
    return 0;
}
