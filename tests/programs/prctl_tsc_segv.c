// PR_SET_TSC by the program itself: RDTSC faults with SIGSEGV until it is allowed again; ARCH_SET_CPUID likewise where it exists.
#include "check.h"
#include <asm/prctl.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <x86intrin.h>
#include <cpuid.h>

static volatile int faults;
static void on(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)si;
    faults++;
    ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(void) {
    handle(SIGSEGV, on, 0);
    uint64_t t = __rdtsc();
    CHECK(faults == 0);
    OK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
    int mode;
    OK(prctl(PR_GET_TSC, &mode));
    CHECK(mode == PR_TSC_SIGSEGV);
    __rdtsc();
    CHECK(faults == 1);
    OK(prctl(PR_SET_TSC, PR_TSC_ENABLE));
    uint64_t u = __rdtsc();
    CHECK(faults == 1 && u >= t);
    int can = syscall(SYS_arch_prctl, ARCH_GET_CPUID);
    int r = syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (r == 0) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        __cpuid(0, a, b, c, d);
        CHECK(faults == 2);
        OK(syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1));
        __cpuid(0, a, b, c, d);
        CHECK(faults == 2 && a > 0);
    } else CHECK(errno == ENODEV || errno == EINVAL);
    printf("tsc %llu cpuid %d %d\n", (unsigned long long)t, can, r);
    return 0;
}
