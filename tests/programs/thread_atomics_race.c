// Racing increments, plain (updates may get lost) and atomic (none may), and a compare-and-swap list.
// cflags: -pthread
#include "check.h"

enum { N = 4, ROUNDS = 20000 };
static volatile long plain;
static long atomic;
struct node { struct node *next; long v; };
static struct node *list, nodes[N][100];
static pthread_barrier_t bar;

static void *work(void *arg) {
    long me = (long)arg;
    pthread_barrier_wait(&bar);
    for (int i = 0; i < ROUNDS; i++) {
        plain = plain + 1;
        __atomic_add_fetch(&atomic, 1, __ATOMIC_SEQ_CST);
        if (i % 200 == 0) {
            struct node *n = &nodes[me][i / 200];
            n->v = me * 1000 + i;
            n->next = __atomic_load_n(&list, __ATOMIC_ACQUIRE);
            while (!__atomic_compare_exchange_n(&list, &n->next, n, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {}
        }
    }
    return NULL;
}

int main(void) {
    OK0(pthread_barrier_init(&bar, NULL, N));
    pthread_t t[N];
    for (long i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (int i = 0; i < N; i++) OK0(pthread_join(t[i], NULL));
    CHECK(atomic == N * ROUNDS && plain > 0 && plain <= N * ROUNDS);
    int len = 0;
    uint32_t h = 0;
    for (struct node *n = list; n; n = n->next) {
        len++;
        h = h * 31 + n->v;
    }
    CHECK(len == N * 100);
    printf("plain %ld list %08x\n", plain, h);
    return 0;
}
