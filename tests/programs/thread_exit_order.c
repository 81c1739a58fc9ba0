// Threads that end while main waits, that create others and leave, that fork, and a join by tid futex; TLS of many sizes.
// cflags: -pthread
#include "check.h"

static __thread char big[5000];
static __thread int depth;
static int order[64], n;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static int alive = 1;

static void *chain(void *arg) {
    long d = (long)arg;
    depth = d;
    memset(big, d, sizeof big);
    if (d < 20) {
        pthread_t t;
        OK0(pthread_mutex_lock(&m));
        alive++;
        OK0(pthread_mutex_unlock(&m));
        OK0(pthread_create(&t, NULL, chain, (void *)(d + 1)));
        OK0(pthread_detach(t));
    }
    sched_yield();
    CHECK(depth == d && big[4999] == d);
    OK0(pthread_mutex_lock(&m));
    order[n++] = d;
    alive--;
    OK0(pthread_mutex_unlock(&m));
    return NULL;
}

static void *forks(void *arg) {
    pid_t c = OK(fork());
    if (c == 0) {
        CHECK(gettid() == getpid());
        _exit((int)(long)arg);
    }
    wait_exit(c, (int)(long)arg);
    return NULL;
}

int main(void) {
    pthread_t t[5];
    OK0(pthread_create(&t[0], NULL, chain, (void *)1L));
    OK0(pthread_join(t[0], NULL));
    for (int left = 1; left;) {
        OK0(pthread_mutex_lock(&m));
        left = alive > 1 || n < 20;
        OK0(pthread_mutex_unlock(&m));
        usleep(500);
    }
    uint32_t h = 0;
    for (int i = 0; i < n; i++) h = h * 31 + order[i];
    for (long i = 0; i < 5; i++) OK0(pthread_create(&t[i], NULL, forks, (void *)i));
    for (int i = 0; i < 5; i++) OK0(pthread_join(t[i], NULL));
    printf("order %08x\n", h);
    return 0;
}
