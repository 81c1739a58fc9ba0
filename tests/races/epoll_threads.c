// Several threads wait on one epoll set (edge, one-shot, level) while two processes write.
// cflags: -pthread
#include "../programs/check.h"
#include <sys/epoll.h>

enum { PIPES = 4, THREADS = 3, MESSAGES = 60 };
static int ep, p[PIPES][2], taken, events[THREADS];
static uint32_t order;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *arg) {
    long me = (long)arg;
    for (;;) {
        struct epoll_event e[2];
        int n = epoll_wait(ep, e, 2, 5);
        for (int i = 0; i < n; i++) {
            int k = e[i].data.u32;
            char b[7];
            ssize_t got = read(p[k][0], b, sizeof b);
            OK0(pthread_mutex_lock(&m));
            if (got > 0) taken += got;
            events[me]++;
            order = order * 31 + k * 10 + me + (got > 0 ? got * 100 : 0);
            OK0(pthread_mutex_unlock(&m));
            if (k % 2 == 0) {
                struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = k};
                OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[k][0], &again));
            }
        }
        OK0(pthread_mutex_lock(&m));
        int done = taken == 2 * MESSAGES;
        OK0(pthread_mutex_unlock(&m));
        if (done) return NULL;
    }
}

int main(void) {
    ep = OK(epoll_create1(0));
    for (int k = 0; k < PIPES; k++) {
        OK(pipe2(p[k], O_NONBLOCK));
        struct epoll_event e = {.events = k % 2 ? EPOLLIN : EPOLLIN | EPOLLONESHOT, .data.u32 = k};
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[k][0], &e));
    }
    pid_t pids[2];
    for (int c = 0; c < 2; c++)
        if ((pids[c] = OK(fork())) == 0) {
            for (int i = 0; i < MESSAGES; i++) {
                if (write(p[(i + c) % PIPES][1], "x", 1) != 1) _exit(1);
                if (i % 10 == 0) usleep(100);
            }
            _exit(0);
        }
    pthread_t t[THREADS];
    for (long i = 0; i < THREADS; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (int i = 0; i < THREADS; i++) OK0(pthread_join(t[i], NULL));
    for (int c = 0; c < 2; c++) wait_exit(pids[c], 0);
    printf("order %08x events %d %d %d\n", order, events[0], events[1], events[2]);
    return 0;
}
