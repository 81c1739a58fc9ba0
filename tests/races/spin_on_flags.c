// Threads that wait for each other without any call: plain flags, spin locks with and without pause, a ticket lock, a lock-free stack; and two that only compute.
// cflags: -O1 -pthread
// timeout: 60
#include "../programs/check.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int turn, lock, next_ticket, serving;
static volatile int plain;
static unsigned long shared_counter;

static void *flags(void *arg) {
    int me = (int)(long)arg;
    for (int i = 0; i < 10; i++) {
        while (atomic_load(&turn) != me) {}
        atomic_store(&turn, !me);
    }
    return NULL;
}

static void *spin(void *arg) {
    for (int i = 0; i < 20000; i++) {
        while (atomic_exchange_explicit(&lock, 1, memory_order_acquire))
            if (arg) __builtin_ia32_pause();
        shared_counter++;
        atomic_store_explicit(&lock, 0, memory_order_release);
    }
    return NULL;
}

static void *ticket(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        int mine = atomic_fetch_add(&next_ticket, 1);
        while (atomic_load(&serving) != mine) {}
        shared_counter++;
        atomic_store(&serving, mine + 1);
    }
    return NULL;
}

struct node { struct node *next; };
static _Atomic(struct node *) top;
static void *stack(void *arg) {
    struct node *mine = arg;
    for (int i = 0; i < 1000; i++) {
        mine[i].next = atomic_load(&top);
        while (!atomic_compare_exchange_weak(&top, &mine[i].next, &mine[i])) {}
    }
    return NULL;
}

static void *compute(void *arg) {
    unsigned long x = (unsigned long)arg;
    for (int i = 0; i < 30000000; i++) x = x * 6364136223846793005ul + 1;
    return (void *)x;
}

static void *raises_plain(void *arg) {
    (void)arg;
    compute((void *)1);
    plain = 1;
    return NULL;
}

static void both(void *(*f)(void *), void *a, void *b) {
    pthread_t t[2];
    CHECK(pthread_create(&t[0], NULL, f, a) == 0);
    CHECK(pthread_create(&t[1], NULL, f, b) == 0);
    void *r[2];
    CHECK(pthread_join(t[0], &r[0]) == 0);
    CHECK(pthread_join(t[1], &r[1]) == 0);
    printf("%lu %p %p\n", shared_counter, r[0], r[1]);
}

int main(void) {
    both(flags, (void *)0, (void *)1);
    both(spin, NULL, NULL);
    both(spin, (void *)1, (void *)1);
    both(ticket, NULL, NULL);
    struct node *nodes = calloc(2000, sizeof *nodes);
    both(stack, nodes, nodes + 1000);
    int length = 0;
    unsigned long order = 0;
    for (struct node *n = top; n; n = n->next) { length++; order = order * 31 + (n - nodes); }
    CHECK(length == 2000);
    printf("%lx\n", order);
    both(compute, (void *)3, (void *)5);
    pthread_t t;
    CHECK(pthread_create(&t, NULL, raises_plain, NULL) == 0);
    unsigned long rounds = 0;
    while (!plain) rounds++;
    CHECK(pthread_join(t, NULL) == 0);
    printf("%lu\n", rounds);
    return 0;
}
