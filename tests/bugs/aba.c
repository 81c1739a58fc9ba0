// A lock-free stack without tags: a node that was popped and pushed again meanwhile passes the comparison.
// cflags: -O1 -pthread
#include "bugs.h"
struct node { struct node *next; atomic_int held; };
static _Atomic(struct node *) top;
static struct node nodes[3];
static atomic_int bad;
static struct node *pop(void) {
    struct node *n = atomic_load(&top);
    while (n) {
        struct node *next = n->next;
        if (atomic_compare_exchange_strong(&top, &n, next)) return n;
    }
    return NULL;
}
static void push(struct node *n) {
    n->next = atomic_load(&top);
    while (!atomic_compare_exchange_strong(&top, &n->next, n)) {}
}
static void *work(void *arg) {
    (void)arg;
    for (int i = 0; i < 50; i++) {
        struct node *a = pop();
        struct node *b = pop();
        if (a && atomic_exchange(&a->held, 1)) bad = 1;
        if (b && atomic_exchange(&b->held, 1)) bad = 1;
        if (a) { atomic_store(&a->held, 0); push(a); }
        if (b) { atomic_store(&b->held, 0); push(b); }
    }
    return NULL;
}
int main(void) {
    for (int i = 0; i < 3; i++) push(&nodes[i]);
    two(work, NULL, work, NULL);
    return bad;
}
