// The gs base set by WRGSBASE where the kernel allows it to user code: no system call tells the recorder.
#include "check.h"
#include <sys/auxv.h>

int main(void) {
    if (!(getauxval(AT_HWCAP2) & 2)) SKIP("no FSGSBASE");
    static uint64_t area[2];
    area[0] = (uint64_t)noise_u32() | 1ull << 50;
    uint64_t before, after, v;
    __asm__ volatile("rdgsbase %0" : "=r"(before));
    __asm__ volatile("wrgsbase %0" : : "r"(area));
    for (int i = 0; i < 100; i++) {
        __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
        CHECK(v == area[0]);
        if (i % 10 == 0) getppid();
        if (i % 30 == 0) sched_yield();
    }
    __asm__ volatile("rdgsbase %0" : "=r"(after));
    CHECK(after == (uintptr_t)area && before == 0);
    __asm__ volatile("wrgsbase %0" : : "r"(before));
    printf("area %p value %llx\n", (void *)area, (unsigned long long)v);
    return 0;
}
