// Threads race on plain memory without any synchronisation or call: only preemption at arbitrary instructions decides.
// cflags: -pthread
#include "../programs/check.h"

enum { N = 3 };
static volatile uint32_t word, counter;
static volatile int go;
static uint32_t sums[N];

static void *work(void *arg) {
    uint32_t me = (uintptr_t)arg, h = me;
    while (!go) {}
    for (uint32_t i = 0; i < 300000; i++) {
        counter = counter + 1;
        h = h * 31 + word;
        if ((h & 1023) == 0) word = h;
    }
    sums[me] = h;
    return NULL;
}

int main(void) {
    pthread_t t[N];
    for (long i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    go = 1;
    for (int i = 0; i < N; i++) OK0(pthread_join(t[i], NULL));
    printf("counter %u word %08x sums %08x %08x %08x\n", counter, word, sums[0], sums[1], sums[2]);
    return 0;
}
