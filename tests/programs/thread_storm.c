// 500 threads created and joined, eight at a time.
// cflags: -pthread
#include "check.h"

static long total;
static uint32_t order;

static void *work(void *arg) {
    __atomic_add_fetch(&total, (long)arg, __ATOMIC_RELAXED);
    order = order * 31 + (uint32_t)(long)arg; // racing on purpose
    return arg;
}

int main(void) {
    pthread_t t[8];
    long want = 0;
    for (long i = 0; i < 500; i += 8) {
        int n = 500 - i < 8 ? 500 - i : 8;
        for (int k = 0; k < n; k++) {
            OK0(pthread_create(&t[k], NULL, work, (void *)(i + k)));
            want += i + k;
        }
        for (int k = 0; k < n; k++) {
            void *r;
            OK0(pthread_join(t[k], &r));
            CHECK((long)r == i + k);
        }
    }
    CHECK(total == want);
    printf("order %08x\n", order);
    return 0;
}
