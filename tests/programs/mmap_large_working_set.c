// 64 MB touched in a pattern that depends on random numbers, sorted, checked: much memory, few system calls.
#include "check.h"

int main(void) {
    enum { N = 1 << 20 };
    uint32_t *a = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED);
    uint32_t s = noise_u32() | 1, seed = s;
    for (int i = 0; i < N; i++) {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        a[(size_t)i * 16 + s % 16] = s;
    }
    uint64_t sum = 0;
    uint32_t x = seed;
    for (int i = 0; i < N; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        CHECK(a[(size_t)i * 16 + x % 16] == x);
        sum += x;
    }
    printf("seed %08x sum %llx\n", seed, (unsigned long long)sum);
    return 0;
}
