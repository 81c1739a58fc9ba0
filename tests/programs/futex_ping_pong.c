// Two threads hand a turn to and fro 5000 times by raw futex calls.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>

static uint32_t turn;
static long waits[2];

static void *play(void *arg) {
    uint32_t me = (uintptr_t)arg;
    for (int i = 0; i < 5000; i++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != me) {
            waits[me]++;
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
        }
        __atomic_store_n(&turn, !me, __ATOMIC_RELEASE);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

int main(void) {
    pthread_t t;
    OK0(pthread_create(&t, NULL, play, (void *)1));
    play((void *)0);
    OK0(pthread_join(t, NULL));
    printf("waits %ld %ld\n", waits[0], waits[1]);
    return 0;
}
