// FUTEX_WAKE_OP with all operations and comparisons, FUTEX_REQUEUE and FUTEX_CMP_REQUEUE of threads and of processes.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>

struct shared { uint32_t a, b, ready, woken; };

static long fx(uint32_t *w, int op, uint32_t v, unsigned long v2, uint32_t *w2, uint32_t v3) {
    return syscall(SYS_futex, w, op, v, v2, w2, v3);
}

static void wait_once(struct shared *s, uint32_t *w, int flag) {
    __atomic_add_fetch(&s->ready, 1, __ATOMIC_SEQ_CST);
    while (fx(w, FUTEX_WAIT | flag, 0, 0, NULL, 0) == -1 && errno == EINTR) {}
    __atomic_add_fetch(&s->woken, 1, __ATOMIC_SEQ_CST);
}

struct job { struct shared *s; uint32_t *w; };
static void *waiter(void *arg) {
    struct job *j = arg;
    wait_once(j->s, j->w, FUTEX_PRIVATE_FLAG);
    return NULL;
}

static void until(uint32_t *w, uint32_t v) {
    while (__atomic_load_n(w, __ATOMIC_SEQ_CST) < v) sleep_us(300);
}

static uint32_t apply(int op, uint32_t old, uint32_t arg) {
    switch (op) {
    case FUTEX_OP_SET: return arg;
    case FUTEX_OP_ADD: return old + arg;
    case FUTEX_OP_OR: return old | arg;
    case FUTEX_OP_ANDN: return old & ~arg;
    default: return old ^ arg;
    }
}

static void arithmetic(struct shared *s) {
    for (int op = 0; op < 5; op++)
        for (int cmp = 0; cmp < 6; cmp++) {
            uint32_t old = noise_u32() & 0xff, arg = noise_u32() & 0x7ff;
            s->a = 0;
            s->b = old;
            CHECK(fx(&s->a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &s->b, FUTEX_OP(op, arg, cmp, 3)) == 0);
            CHECK(s->b == apply(op, old, arg));
        }
    s->b = 5;
    CHECK(fx(&s->a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &s->b, FUTEX_OP((FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT), 9, FUTEX_OP_CMP_EQ, 0)) == 0);
    CHECK(s->b == (5 | 1 << 9));
    FAILS(fx(&s->a, FUTEX_WAKE_OP_PRIVATE, 1, 1, (uint32_t *)8, 0), EFAULT);
    FAILS(fx(&s->a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &s->b, FUTEX_OP(7, 0, 0, 0)), ENOSYS);
}

int main(void) {
    static struct shared mine;
    struct shared *s = &mine;
    arithmetic(s);
    // Two wait on each word; the operation wakes one of the first and, as the old value is 0, one of the second.
    pthread_t t[6];
    for (int round = 0; round < 10; round++) {
        memset(s, 0, sizeof *s);
        struct job on_a = {s, &s->a}, on_b = {s, &s->b};
        for (int i = 0; i < 4; i++) OK0(pthread_create(&t[i], NULL, waiter, i & 1 ? &on_b : &on_a));
        until(&s->ready, 4);
        sleep_us(2000);
        long n = OK(fx(&s->a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &s->b, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)));
        s->a = 1;
        long rest = 0;
        while (n + rest < 4 && __atomic_load_n(&s->woken, __ATOMIC_SEQ_CST) < 4) {
            rest += OK(fx(&s->a, FUTEX_WAKE_PRIVATE, 9, 0, NULL, 0)) + OK(fx(&s->b, FUTEX_WAKE_PRIVATE, 9, 0, NULL, 0));
            sleep_us(300);
        }
        for (int i = 0; i < 4; i++) OK0(pthread_join(t[i], NULL));
        // One is woken and the rest moved to the second word, from where they are woken one by one.
        memset(s, 0, sizeof *s);
        for (int i = 0; i < 6; i++) OK0(pthread_create(&t[i], NULL, waiter, &on_a));
        until(&s->ready, 6);
        sleep_us(2000);
        FAILS(fx(&s->a, FUTEX_CMP_REQUEUE_PRIVATE, 1, 3, &s->b, 1), EAGAIN);
        long moved = round & 1 ? OK(fx(&s->a, FUTEX_CMP_REQUEUE_PRIVATE, 1, 3, &s->b, 0))
                               : OK(fx(&s->a, FUTEX_REQUEUE_PRIVATE, 1, 3, &s->b, 0));
        __atomic_store_n(&s->a, 1, __ATOMIC_SEQ_CST);
        long of_b = 0, of_a = 0;
        while (__atomic_load_n(&s->woken, __ATOMIC_SEQ_CST) < 6) {
            of_b += OK(fx(&s->b, FUTEX_WAKE_PRIVATE, 1, 0, NULL, 0));
            of_a += OK(fx(&s->a, FUTEX_WAKE_PRIVATE, 1, 0, NULL, 0));
            sched_yield();
        }
        for (int i = 0; i < 6; i++) OK0(pthread_join(t[i], NULL));
        if (round == 9) printf("woken %ld + %ld, moved %ld, from there %ld, late %ld\n", n, rest, moved, of_b, of_a);
    }

    s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    pid_t p[4];
    for (int i = 0; i < 4; i++)
        if ((p[i] = OK(fork())) == 0) {
            wait_once(s, &s->a, 0);
            _exit(0);
        }
    until(&s->ready, 4);
    sleep_us(3000);
    long moved = OK(fx(&s->a, FUTEX_CMP_REQUEUE, 1, 2, &s->b, 0));
    __atomic_store_n(&s->a, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&s->woken, __ATOMIC_SEQ_CST) < 4) {
        OK(fx(&s->a, FUTEX_WAKE_OP, 1, 1, &s->b, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_GE, 0)));
        sleep_us(300);
    }
    for (int i = 0; i < 4; i++) wait_exit(p[i], 0);
    printf("moved %ld, counted %u\n", moved, s->b);
    return 0;
}
