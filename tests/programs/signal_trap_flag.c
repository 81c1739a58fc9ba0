// A program that sets the trap flag is trapped behind each of its instructions, calls and those that read clock and CPU included, however often they were there before.
#include "check.h"
#include <ucontext.h>

static volatile int n;
static volatile uint64_t places[32];

static void on_trap(int sig, siginfo_t *info, void *context) {
    (void)sig;
    CHECK(info->si_code == TRAP_TRACE);
    uint64_t rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    CHECK((uint64_t)info->si_addr == rip);
    if (n < 32) places[n] = rip;
    n++;
}

extern char stepped[];

static void step(uint64_t *wanted, int *count) {
    n = 0;
    unsigned a = 0, b, c = 0, d;
    long pid;
    __asm__ volatile("sub $128, %%rsp\n pushf\n orq $0x100, (%%rsp)\n popf\n"
                     ".globl stepped\nstepped: nop\n"
                     "mov %[getpid], %%eax\n syscall\n mov %%rax, %%rsi\n xor %%eax, %%eax\n"
                     "cpuid\n rdtsc\n rdtscp\n nop\n"
                     "pushf\n andq $~0x100, (%%rsp)\n popf\n add $128, %%rsp"
                     : "=a"(a), "=b"(b), "=c"(c), "=d"(d), "=S"(pid)
                     : [getpid] "i"(SYS_getpid) : "cc", "memory", "r11");
    CHECK(pid == getpid());
    CHECK(n > 4 && n < 32);
    for (int i = 0; i < n; i++) {
        if (!*count) wanted[i] = places[i] - (uint64_t)stepped;
        CHECK(wanted[i] == places[i] - (uint64_t)stepped);
    }
    CHECK(!*count || *count == n);
    *count = n;
}

int main(void) {
    uint64_t wanted[32];
    int count = 0;
    handle(SIGTRAP, on_trap, 0);
    for (int i = 0; i < 12; i++) step(wanted, &count);
    // nop, mov, syscall (which is not stepped into), and so on, up to behind the popf
    printf("%d steps:", count);
    for (int i = 0; i < count; i++) printf(" %d", (int)wanted[i]);
    printf("\n");
    CHECK(count == 11 && wanted[0] == 1 && wanted[1] == 6 && wanted[count - 1] == wanted[count - 2] + 1);
    noise("end");
}
