// Two threads wait for each other in spin loops: with sched_yield, with pause, and with nothing at all in the loop.
// cflags: -pthread
#include "check.h"

static volatile int turn;
static int kind, rounds;

static void spin(int want) {
    if (kind == 0) while (turn != want) sched_yield();
    else if (kind == 1) while (turn != want) __asm__ volatile("pause");
    else while (turn != want) {}
}

static void *other(void *arg) {
    (void)arg;
    for (int i = 0; i < rounds; i++) {
        spin(1);
        __atomic_store_n(&turn, 0, __ATOMIC_RELEASE);
    }
    return NULL;
}

int main(void) {
    for (kind = 0; kind < 3; kind++) {
        rounds = kind == 0 ? 500 : 20;
        turn = 0;
        pthread_t t;
        OK0(pthread_create(&t, NULL, other, NULL));
        int64_t start = now_ns();
        for (int i = 0; i < rounds; i++) {
            spin(0);
            __atomic_store_n(&turn, 1, __ATOMIC_RELEASE);
        }
        OK0(pthread_join(t, NULL));
        printf("kind %d: %lld ns\n", kind, (long long)(now_ns() - start));
    }
    return 0;
}
