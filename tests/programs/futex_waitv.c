// FUTEX_WAITV on three words: value mismatch, time-out, which index was woken.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

struct waitv { uint64_t val, uaddr; uint32_t flags, reserved; };
static uint32_t words[3];

static void *waker(void *arg) {
    (void)arg;
    sleep_us(10000);
    words[1] = 1;
    while (syscall(SYS_futex, &words[1], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0 && __atomic_load_n(&words[2], __ATOMIC_SEQ_CST) == 0)
        sleep_us(1000);
    return NULL;
}

int main(void) {
    struct waitv v[3];
    for (int i = 0; i < 3; i++) v[i] = (struct waitv){0, (uintptr_t)&words[i], 2 | 128, 0};
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long r = syscall(SYS_futex_waitv, v, 3, 0, &t, CLOCK_MONOTONIC);
    if (r == -1 && errno == ENOSYS) SKIP("no futex_waitv");
    CHECK(r == -1 && errno == ETIMEDOUT);
    v[0].val = 5;
    FAILS(syscall(SYS_futex_waitv, v, 3, 0, NULL, 0), EAGAIN);
    v[0].val = 0;
    FAILS(syscall(SYS_futex_waitv, v, 0, 0, NULL, 0), EINVAL);
    pthread_t th;
    OK0(pthread_create(&th, NULL, waker, NULL));
    r = syscall(SYS_futex_waitv, v, 3, 0, NULL, 0);
    CHECK(r == 1 || (r == -1 && errno == EAGAIN));
    __atomic_store_n(&words[2], 1, __ATOMIC_SEQ_CST);
    OK0(pthread_join(th, NULL));
    printf("woken %ld at %p\n", r, (void *)words);
    return 0;
}
