// Instructions whose results the kernel does not give: RDTSC, RDTSCP, CPUID, RDRAND, RDSEED, RDPID, XGETBV, in loops and in one-off places.
#include "check.h"
#include <cpuid.h>
#include <x86intrin.h>

__attribute__((target("rdrnd"))) static uint64_t rnd(void) {
    unsigned long long v = 0;
    for (int i = 0; i < 100 && !_rdrand64_step(&v); i++) {}
    return v;
}

__attribute__((target("rdseed"))) static uint64_t seed(void) {
    unsigned long long v = 0;
    for (int i = 0; i < 1000 && !_rdseed64_step(&v); i++) {}
    return v;
}

int main(void) {
    uint64_t last = 0, h = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t t = __rdtsc();
        CHECK(t >= last);
        last = t;
        h = h * 31 + t;
    }
    unsigned a, b, c, d, aux = 0;
    printf("tsc %llu hash %llx\n", (unsigned long long)last, (unsigned long long)h);
    __cpuid(0, a, b, c, d);
    unsigned top = a;
    printf("vendor %.4s%.4s%.4s leaves %u\n", (char *)&b, (char *)&d, (char *)&c, a);
    __cpuid(1, a, b, c, d);
    int has_rdrand = c >> 30 & 1, xsave = c >> 27 & 1;
    printf("leaf 1: %08x %08x %08x apic %u\n", a, c, d, b >> 24);
    int has_seed = 0, has_pid = 0;
    if (top >= 7) {
        __cpuid_count(7, 0, a, b, c, d);
        has_seed = b >> 18 & 1;
        has_pid = c >> 22 & 1;
        printf("leaf 7: %08x %08x %08x\n", b, c, d);
    }
    for (unsigned leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
        __cpuid(leaf, a, b, c, d);
        h = h * 31 + a + b + c + d;
    }
    __cpuid(0x80000001, a, b, c, d);
    if (d >> 27 & 1) printf("tscp %llu", (unsigned long long)__rdtscp(&aux)), printf(" aux %u\n", aux);
    if (has_rdrand) for (int i = 0; i < 3; i++) printf("rdrand %llx\n", (unsigned long long)rnd());
    if (has_seed) printf("rdseed %llx\n", (unsigned long long)seed());
    if (has_pid) {
        uint64_t p;
        __asm__ volatile("rdpid %0" : "=r"(p));
        printf("rdpid %llu\n", (unsigned long long)p);
    }
    if (xsave) {
        uint32_t lo, hi;
        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        CHECK((lo & 3) == 3);
        printf("xcr0 %x\n", lo);
    }
    printf("brand hash %llx\n", (unsigned long long)h);
    return 0;
}
