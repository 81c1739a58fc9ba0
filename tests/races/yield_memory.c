// Threads race on plain memory with sched_yield in between: the order in which they pass is the output.
// cflags: -pthread
#include "../programs/check.h"

enum { N = 4, ROUNDS = 400 };
static volatile int slot;
static volatile uint32_t order;

static void *work(void *arg) {
    int me = (int)(long)arg, seen = 0;
    for (int i = 0; i < ROUNDS; i++) {
        int before = slot;
        sched_yield();
        if (before != slot) seen++;
        slot = me * 1000 + i;
        order = order * 31 + before;
        if (i % 7 == me) sched_yield();
    }
    return (void *)(long)seen;
}

int main(void) {
    pthread_t t[N];
    for (long i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (int i = 0; i < N; i++) {
        void *r;
        OK0(pthread_join(t[i], &r));
        printf("thread %d saw %ld changes\n", i, (long)r);
    }
    printf("order %08x last %d\n", order, slot);
    return 0;
}
