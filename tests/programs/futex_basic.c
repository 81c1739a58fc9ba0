// futex: wait, wake, value changed (EAGAIN), time-outs, bitsets, requeue, compare-and-requeue, wake-op.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>

static uint32_t a, b;
static int woken;

static long futex(uint32_t *w, int op, uint32_t v, const void *t, uint32_t *w2, uint32_t v3) {
    return syscall(SYS_futex, w, op, v, t, w2, v3);
}

static void *waiter(void *arg) {
    uint32_t bits = (uint32_t)(uintptr_t)arg;
    while (futex(&a, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, bits) == -1) CHECK(errno == EINTR);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

// Wakes with op until n more threads have woken.
static void wake_until(int n, long (*wake)(void)) {
    while (__atomic_load_n(&woken, __ATOMIC_SEQ_CST) < n) {
        wake();
        sleep_us(500);
    }
}
static long wake_two(void) { return futex(&a, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2); }
static long wake_rest(void) { return futex(&a, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0); }
static long wake_b(void) { return futex(&b, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

int main(void) {
    FAILS(futex(&a, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0), EAGAIN);
    struct timespec t = {0, 10000000};
    int64_t start = now_ns();
    FAILS(futex(&a, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), ETIMEDOUT);
    CHECK(now_ns() - start >= 10000000);
    struct timespec abs;
    clock_gettime(CLOCK_REALTIME, &abs);
    FAILS(futex(&a, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &abs, NULL, ~0u), ETIMEDOUT);
    FAILS(futex(&a, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex((uint32_t *)((char *)&a + 1), FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex((uint32_t *)8, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    CHECK(futex(&a, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0);

    pthread_t th[6];
    for (long i = 0; i < 6; i++) OK0(pthread_create(&th[i], NULL, waiter, (void *)(i < 2 ? 2L : 1L)));
    wake_until(2, wake_two);
    sleep_us(5000);
    // Requeue the other four to b: one woken, three moved (as many as wait already).
    FAILS(futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &b, 5), EAGAIN);
    long moved = futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &b, 0);
    CHECK(moved >= 0 && moved <= 4);
    for (int n = 3; n <= 6; n++) {
        while (__atomic_load_n(&woken, __ATOMIC_SEQ_CST) < n) {
            wake_b();
            wake_rest();
            sleep_us(500);
        }
    }
    for (int i = 0; i < 6; i++) OK0(pthread_join(th[i], NULL));
    // WAKE_OP: b = b + 7, compare the old value with 0.
    b = 0;
    CHECK(futex(&a, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &b, FUTEX_OP(FUTEX_OP_ADD, 7, FUTEX_OP_CMP_EQ, 0)) == 0);
    CHECK(b == 7);
    CHECK(futex(&a, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &b, FUTEX_OP((FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT), 3, FUTEX_OP_CMP_GT, 100)) == 0);
    CHECK(b == 8);
    printf("moved %ld word at %p\n", moved, (void *)&a);
    return 0;
}
