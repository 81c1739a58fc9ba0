// Which thread gets a contended mutex next, with long and short critical sections, trylock and timedlock.
// cflags: -pthread
#include "../programs/check.h"

enum { N = 4, ROUNDS = 150 };
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static uint32_t order;
static int failed[N], runs[N], last = -1;

static void *work(void *arg) {
    int me = (int)(long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 3 == 0) {
            if (pthread_mutex_trylock(&m) == EBUSY) {
                failed[me]++;
                continue;
            }
        } else if (i % 3 == 1) {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            t.tv_nsec += 200000;
            if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; }
            if (pthread_mutex_timedlock(&m, &t)) {
                failed[me]++;
                continue;
            }
        } else OK0(pthread_mutex_lock(&m));
        if (last == me) runs[me]++;
        last = me;
        order = order * 31 + me;
        if (i % 10 == 0) for (volatile int k = 0; k < 20000; k++) {}
        if (i % 16 == 0) sched_yield();
        OK0(pthread_mutex_unlock(&m));
    }
    return NULL;
}

int main(void) {
    pthread_t t[N];
    for (long i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (int i = 0; i < N; i++) OK0(pthread_join(t[i], NULL));
    printf("order %08x\n", order);
    for (int i = 0; i < N; i++) printf("%d: %d refused, %d in a row\n", i, failed[i], runs[i]);
    return 0;
}
