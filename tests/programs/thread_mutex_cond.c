// Mutex kinds, try and timed locks, condition variables with producers and consumers; who consumed what differs from run to run.
// cflags: -pthread
#include "check.h"

enum { ITEMS = 3000, SLOTS = 16, PRODUCERS = 3, CONSUMERS = 3 };
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;
static int ring[SLOTS], head, count, produced, consumed;
static long sums[CONSUMERS];
static int counts[CONSUMERS];

static void *produce(void *arg) {
    (void)arg;
    for (;;) {
        OK0(pthread_mutex_lock(&m));
        while (count == SLOTS && produced < ITEMS) OK0(pthread_cond_wait(&not_full, &m));
        if (produced == ITEMS) {
            OK0(pthread_mutex_unlock(&m));
            return NULL;
        }
        ring[(head + count++) % SLOTS] = produced++;
        OK0(pthread_cond_signal(&not_empty));
        if (produced == ITEMS) {
            OK0(pthread_cond_broadcast(&not_full));
            OK0(pthread_cond_broadcast(&not_empty));
        }
        OK0(pthread_mutex_unlock(&m));
    }
}

static void *consume(void *arg) {
    long me = (long)arg;
    for (;;) {
        OK0(pthread_mutex_lock(&m));
        while (count == 0 && consumed < ITEMS && produced < ITEMS) OK0(pthread_cond_wait(&not_empty, &m));
        if (count == 0) {
            OK0(pthread_mutex_unlock(&m));
            return NULL;
        }
        sums[me] += ring[head];
        counts[me]++;
        head = (head + 1) % SLOTS;
        count--;
        consumed++;
        OK0(pthread_cond_signal(&not_full));
        OK0(pthread_mutex_unlock(&m));
    }
}

static void *try_other(void *arg) {
    CHECK(pthread_mutex_trylock(arg) == EBUSY);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 5000000;
    if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; }
    CHECK(pthread_mutex_timedlock(arg, &t) == ETIMEDOUT);
    return NULL;
}

int main(void) {
    pthread_t t[PRODUCERS + CONSUMERS];
    for (int i = 0; i < PRODUCERS; i++) OK0(pthread_create(&t[i], NULL, produce, NULL));
    for (long i = 0; i < CONSUMERS; i++) OK0(pthread_create(&t[PRODUCERS + i], NULL, consume, (void *)i));
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) OK0(pthread_join(t[i], NULL));
    long sum = 0;
    for (int i = 0; i < CONSUMERS; i++) {
        sum += sums[i];
        printf("consumer %d took %d\n", i, counts[i]);
    }
    CHECK(sum == (long)ITEMS * (ITEMS - 1) / 2 && consumed == ITEMS);

    pthread_mutexattr_t a;
    OK0(pthread_mutexattr_init(&a));
    OK0(pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE));
    pthread_mutex_t r;
    OK0(pthread_mutex_init(&r, &a));
    OK0(pthread_mutex_lock(&r));
    OK0(pthread_mutex_lock(&r));
    OK0(pthread_create(&t[0], NULL, try_other, &r));
    OK0(pthread_join(t[0], NULL));
    OK0(pthread_mutex_unlock(&r));
    OK0(pthread_mutex_unlock(&r));
    OK0(pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK));
    pthread_mutex_t e;
    OK0(pthread_mutex_init(&e, &a));
    CHECK(pthread_mutex_unlock(&e) == EPERM);
    OK0(pthread_mutex_lock(&e));
    CHECK(pthread_mutex_lock(&e) == EDEADLK);
    return 0;
}
