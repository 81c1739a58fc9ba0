// RDTSC and RDTSCP in pairs, thousands of them, as libraries measure the counter's resolution when they are loaded.
#include "check.h"
#include <cpuid.h>
#include <x86intrin.h>

static uint64_t sum;

static __attribute__((noinline)) void pairs(int count) {
    for (int i = 0; i < count; i++) {
        unsigned aux = 77;
        _mm_lfence();
        uint64_t begin = __rdtsc();
        _mm_lfence();
        uint64_t end = __rdtscp(&aux);
        _mm_lfence();
        CHECK(end >= begin);
        CHECK(aux != 77);
        sum += end - begin + aux;
    }
}

int main(void) {
    unsigned a, b, c, d;
    CHECK(__get_cpuid(0x80000001, &a, &b, &c, &d));
    if (d >> 27 & 1) {
        pairs(20000);
        printf("ticks %llu\n", (unsigned long long)sum);
    }
    return 0;
}
