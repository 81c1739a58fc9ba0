// PI futexes by raw calls: errors, time limits of both clocks, hand-over, signals while waiting, deadlock, requeueing to a PI futex.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>
#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

static uint32_t word, other, cond, plain_failed;
static volatile int handled, got, in_order[8], arrived;
static pid_t waiting_tid;

static long fx(uint32_t *w, int op, uint32_t v, const struct timespec *t, uint32_t *w2, uint32_t v3) {
    return syscall(SYS_futex, w, op, v, t, w2, v3);
}
static pid_t tid(void) { return syscall(SYS_gettid); }
static void lock(uint32_t *w) {
    uint32_t zero = 0;
    if (!__atomic_compare_exchange_n(w, &zero, tid(), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        OK(fx(w, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
}
static void unlock(uint32_t *w) {
    uint32_t me = tid();
    if (!__atomic_compare_exchange_n(w, &me, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        OK(fx(w, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
}
static void until_waiters(uint32_t *w) {
    while (!(__atomic_load_n(w, __ATOMIC_SEQ_CST) & FUTEX_WAITERS)) sleep_us(500);
}
static struct timespec in_ms(int clock, long ms) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void *take(void *arg) {
    lock(&word);
    in_order[arrived++] = (int)(long)arg;
    unlock(&word);
    return NULL;
}
static void *timed(void *arg) {
    struct timespec t = in_ms(CLOCK_REALTIME, 20);
    FAILS(fx(&word, FUTEX_LOCK_PI_PRIVATE, 0, &t, NULL, 0), ETIMEDOUT);
    t = in_ms(CLOCK_MONOTONIC, 20);
    long r = fx(&word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG, 0, &t, NULL, 0);
    CHECK(r == -1 && (errno == ETIMEDOUT || errno == ENOSYS));
    FAILS(fx(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EAGAIN);
    FAILS(fx(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    return arg;
}
static void on_usr1(int s, siginfo_t *i, void *u) { (void)s; (void)i; (void)u; handled++; }
static void *interrupted(void *arg) {
    waiting_tid = tid();
    lock(&word); // restarted after the handler, whatever the flags
    got = 1;
    unlock(&word);
    return arg;
}
static void *second_of_circle(void *arg) {
    lock(&other);
    sleep_us(10000);
    lock(&word); // the main thread has it, and asks for `other` in vain
    unlock(&word);
    unlock(&other);
    return arg;
}
static void *dies(void *arg) { lock(&word); sleep_us(100000); return arg; }
static void *waits_on_cond(void *arg) {
    uint32_t v = cond;
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    long r = fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, v, NULL, &word, 0);
    if (r == -1) { CHECK(errno == EAGAIN); plain_failed++; lock(&word); }
    CHECK((word & FUTEX_TID_MASK) == (uint32_t)tid());
    got++;
    unlock(&word);
    return arg;
}

int main(void) {
    pthread_t t[4];
    struct timespec bad = {0, 1000000000};
    FAILS(fx((uint32_t *)((char *)&word + 1), FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    FAILS(fx((uint32_t *)8, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    FAILS(fx(&word, FUTEX_LOCK_PI_PRIVATE, 0, &bad, NULL, 0), EINVAL);
    FAILS(fx(&word, FUTEX_LOCK_PI_PRIVATE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0), ENOSYS);
    FAILS(fx(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    uint32_t *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAILS(fx(ro, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EFAULT);

    OK(fx(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK(word == (uint32_t)tid());
    FAILS(fx(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    OK0(pthread_create(&t[0], NULL, timed, NULL));
    OK0(pthread_join(t[0], NULL));
    CHECK(word == ((uint32_t)tid() | FUTEX_WAITERS));
    unlock(&word);
    CHECK(word == 0);
    word = 0x3fffffff; // nobody has this id
    FAILS(fx(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), ESRCH);
    word = FUTEX_OWNER_DIED;
    OK(fx(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK(word == ((uint32_t)tid() | FUTEX_OWNER_DIED));
    OK(fx(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CHECK(word == 0);

    lock(&word);
    for (long i = 0; i < 4; i++) {
        OK0(pthread_create(&t[i], NULL, take, (void *)i));
        until_waiters(&word);
        sleep_us(4000);
    }
    unlock(&word);
    for (int i = 0; i < 4; i++) OK0(pthread_join(t[i], NULL));
    printf("order %d%d%d%d word %x\n", in_order[0], in_order[1], in_order[2], in_order[3], word);

    handle(SIGUSR1, on_usr1, 0);
    lock(&word);
    OK0(pthread_create(&t[0], NULL, interrupted, NULL));
    until_waiters(&word);
    for (int i = 0; i < 3; i++) {
        sleep_us(3000);
        OK(syscall(SYS_tgkill, getpid(), waiting_tid, SIGUSR1));
        while (handled <= i) sleep_us(500);
        CHECK(!got);
    }
    unlock(&word);
    OK0(pthread_join(t[0], NULL));
    CHECK(got == 1);

    lock(&word);
    OK0(pthread_create(&t[0], NULL, second_of_circle, NULL));
    until_waiters(&word);
    sleep_us(3000);
    FAILS(fx(&other, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    unlock(&word);
    OK0(pthread_join(t[0], NULL));

    OK0(pthread_create(&t[0], NULL, dies, NULL));
    while (!__atomic_load_n(&word, __ATOMIC_SEQ_CST)) sleep_us(500);
    lock(&word); // not robust: the kernel says so all the same
    CHECK((word & FUTEX_TID_MASK) == (uint32_t)tid());
    printf("after the owner's death %x\n", word & ~FUTEX_TID_MASK);
    OK0(pthread_join(t[0], NULL));
    OK(fx(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));

    FAILS(fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, cond + 1, NULL, &word, 0), EAGAIN);
    FAILS(fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, cond, NULL, &cond, 0), EINVAL);
    struct timespec soon = in_ms(CLOCK_MONOTONIC, 5);
    FAILS(fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, cond, &soon, &word, 0), ETIMEDOUT);
    for (int held = 0; held < 2; held++) {
        got = arrived = 0;
        for (int i = 0; i < 3; i++) OK0(pthread_create(&t[i], NULL, waits_on_cond, NULL));
        while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < 3) sleep_us(500);
        sleep_us(5000);
        if (held) lock(&word);
        uint32_t seen = __atomic_add_fetch(&cond, 1, __ATOMIC_SEQ_CST);
        FAILS(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)8L, &word, seen + 1), EAGAIN);
        FAILS(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, (void *)8L, &word, seen), EINVAL);
        long n = OK(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)8L, &word, seen));
        if (held) { sleep_us(3000); CHECK(got + plain_failed <= 3); unlock(&word); }
        for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
        printf("requeued %ld\n", n);
        CHECK(got == 3);
    }
    return 0;
}
