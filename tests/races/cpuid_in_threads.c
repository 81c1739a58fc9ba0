// Threads that race on plain memory execute CPUID, and int $0x80, in between: they trap, but are no events, so nothing may happen there. Who came when is the output.
// cflags: -O1 -pthread
#include "../programs/check.h"

static volatile unsigned long order;

static unsigned leaf(unsigned n) {
    unsigned a = n, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b;
}

// At another place each time: such a place is patched at its second turn.
#define AGAIN(n) \
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0)); order = order * 31 + (n)

static void *work(void *arg) {
    unsigned long me = (unsigned long)arg;
    unsigned first = leaf(0), a, b, c, d;
    for (int i = 0; i < 400; i++) {
        order = order * 31 + me;
        CHECK(leaf(0) == first);
        order = order * 31 + me;
        AGAIN(me); AGAIN(me); AGAIN(me); AGAIN(me);
        long r = 20;
        __asm__ volatile("int $0x80" : "+a"(r));
        order = order * 31 + me;
        // Long enough to be stopped between two of them.
        for (volatile int k = 0; k < 20000; k++) {}
    }
    return NULL;
}

int main(void) {
    pthread_t t[3];
    for (long i = 0; i < 3; i++) CHECK(pthread_create(&t[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_join(t[i], NULL) == 0);
    printf("%lx\n", order);
    return 0;
}
