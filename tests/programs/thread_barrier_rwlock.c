// Barriers, read-write locks, spin locks, once; racing readers see consistent pairs.
// cflags: -pthread
#include "check.h"

enum { N = 4, ROUNDS = 50 };
static pthread_barrier_t bar;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int onces, serials, first, second, spun;
static uint32_t order;

static void run_once(void) { onces++; }

static void *work(void *arg) {
    long me = (long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_once(&once, run_once);
        int r = pthread_barrier_wait(&bar);
        if (r == PTHREAD_BARRIER_SERIAL_THREAD) serials++;
        else CHECK(r == 0);
        if (i % N == me) {
            OK0(pthread_rwlock_wrlock(&rw));
            first++;
            sched_yield();
            second++;
            order = order * 31 + me;
            OK0(pthread_rwlock_unlock(&rw));
        } else {
            OK0(pthread_rwlock_rdlock(&rw));
            CHECK(first == second);
            OK0(pthread_rwlock_unlock(&rw));
        }
        OK0(pthread_spin_lock(&spin));
        spun++;
        order = order * 7 + me;
        OK0(pthread_spin_unlock(&spin));
    }
    return NULL;
}

int main(void) {
    OK0(pthread_barrier_init(&bar, NULL, N));
    OK0(pthread_spin_init(&spin, 0));
    pthread_t t[N];
    for (long i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (int i = 0; i < N; i++) OK0(pthread_join(t[i], NULL));
    CHECK(onces == 1 && serials == ROUNDS && spun == N * ROUNDS && first == second);
    printf("order %08x\n", order);
    return 0;
}
