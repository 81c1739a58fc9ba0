// Private futexes within one process: how many are woken, bits, moving to another futex, interruption by signals, a waker that does not wait.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>

#define TASKS 4
static uint32_t word, other;
static int woken, ready;
static volatile int flag;

static long futex(uint32_t *at, int op, uint32_t value, long value2, uint32_t *at2, uint32_t value3) {
    return syscall(SYS_futex, at, op | FUTEX_PRIVATE_FLAG, value, value2, at2, value3);
}
static int count(int *what) { return __atomic_load_n(what, __ATOMIC_SEQ_CST); }
static void add(int *what) { __atomic_add_fetch(what, 1, __ATOMIC_SEQ_CST); }

static void *waits(void *arg) {
    uint32_t bits = (uintptr_t)arg;
    add(&ready);
    long got = bits ? futex(&word, FUTEX_WAIT_BITSET, 0, 0, NULL, bits) : futex(&word, FUTEX_WAIT, 0, 0, NULL, 0);
    CHECK(got == 0 || errno == EAGAIN);
    add(&woken);
    return NULL;
}

static void begin(pthread_t *threads, int tasks, int bits) {
    ready = woken = 0;
    for (int i = 0; i < tasks; i++) OK0(pthread_create(&threads[i], NULL, waits, (void *)(uintptr_t)(bits ? 1 << i : 0)));
    while (count(&ready) < tasks) sleep_us(500);
    sleep_us(20000);
    CHECK(count(&woken) == 0);
}
static void end(pthread_t *threads, int tasks) {
    for (int i = 0; i < tasks; i++) OK0(pthread_join(threads[i], NULL));
    CHECK(woken == tasks);
}

static void *spins(void *arg) {
    for (long i = 0; i < (long)arg; i++) {
        while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) != 1) futex(&word, FUTEX_WAIT, 0, 0, NULL, 0);
        __atomic_store_n(&word, 0, __ATOMIC_SEQ_CST);
        flag = 1;
    }
    return NULL;
}

static volatile sig_atomic_t handled;
static void handles(int signal) { (void)signal; handled++; }
static void *interrupted(void *arg) {
    (void)arg;
    add(&ready);
    FAILS(futex(&word, FUTEX_WAIT, 0, 0, NULL, 0), EINTR);
    CHECK(handled == 1);
    add(&ready);
    CHECK(futex(&word, FUTEX_WAIT, 0, 0, NULL, 0) == 0);
    return NULL;
}

int main(void) {
    pthread_t threads[TASKS];

    begin(threads, TASKS, 0);
    CHECK(futex(&word, FUTEX_WAKE, 1, 0, NULL, 0) == 1);
    CHECK(futex(&word, FUTEX_WAKE, 2, 0, NULL, 0) == 2);
    CHECK(futex(&word, FUTEX_WAKE, INT_MAX, 0, NULL, 0) == 1);
    CHECK(futex(&word, FUTEX_WAKE, INT_MAX, 0, NULL, 0) == 0);
    end(threads, TASKS);

    begin(threads, TASKS, 1);
    CHECK(futex(&word, FUTEX_WAKE_BITSET, INT_MAX, 0, NULL, 1 << TASKS) == 0);
    CHECK(futex(&word, FUTEX_WAKE_BITSET, INT_MAX, 0, NULL, 2 | 4) == 2);
    CHECK(futex(&other, FUTEX_WAKE, INT_MAX, 0, NULL, 0) == 0);
    CHECK(futex(&word, FUTEX_WAKE, INT_MAX, 0, NULL, 0) == TASKS - 2);
    end(threads, TASKS);

    // Whether those that are moved wait on is the system's business.
    begin(threads, TASKS, 0);
    CHECK(futex(&word, FUTEX_CMP_REQUEUE, 1, INT_MAX, &other, 0) == TASKS);
    futex(&other, FUTEX_WAKE, INT_MAX, 0, NULL, 0);
    end(threads, TASKS);

    // The waker computes until the other has done its part.
    pthread_t t;
    const long rounds = 20;
    OK0(pthread_create(&t, NULL, spins, (void *)rounds));
    for (long i = 0; i < rounds; i++) {
        if (i < 3) sleep_us(2000);
        flag = 0;
        __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
        futex(&word, FUTEX_WAKE, 1, 0, NULL, 0);
        while (!flag) {}
    }
    OK0(pthread_join(t, NULL));

    struct sigaction action = {.sa_handler = handles};
    OK(sigaction(SIGUSR1, &action, NULL));
    ready = 0;
    OK0(pthread_create(&t, NULL, interrupted, NULL));
    while (count(&ready) < 1) sleep_us(500);
    sleep_us(20000);
    OK0(pthread_kill(t, SIGUSR1));
    while (count(&ready) < 2) sleep_us(500);
    sleep_us(20000);
    CHECK(futex(&word, FUTEX_WAKE, 1, 0, NULL, 0) == 1);
    OK0(pthread_join(t, NULL));
    puts("done");
    return 0;
}
