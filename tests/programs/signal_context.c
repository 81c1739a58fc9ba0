// A handler sees and changes the interrupted registers, flags and mask through ucontext; siglongjmp out of handlers; nested handlers.
#include "../programs/check.h"
#include <setjmp.h>
#include <ucontext.h>

static volatile int order[16], n;
static void set_regs(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)si;
    ucontext_t *u = uc;
    CHECK(u->uc_mcontext.gregs[REG_RAX] == 0x1111 && u->uc_mcontext.gregs[REG_R15] == 0x2222);
    u->uc_mcontext.gregs[REG_RAX] = 0x3333;
    u->uc_mcontext.gregs[REG_R15] = 0x4444;
    u->uc_mcontext.gregs[REG_EFL] |= 1; // carry
    u->uc_mcontext.gregs[REG_RIP] += 2;
    sigaddset(&u->uc_sigmask, SIGUSR2);
}

static void inner(int s, siginfo_t *si, void *uc) {
    (void)s; (void)si; (void)uc;
    order[n++] = 2;
}
static void outer(int s, siginfo_t *si, void *uc) {
    (void)s; (void)si; (void)uc;
    order[n++] = 1;
    raise(SIGUSR2);
    order[n++] = 3;
}

static sigjmp_buf back;
static void jump(int s, siginfo_t *si, void *uc) {
    (void)s; (void)si; (void)uc;
    siglongjmp(back, ++n);
}

static volatile uintptr_t interrupted;
static volatile int stop;
static void where(int s, siginfo_t *si, void *uc) {
    (void)s; (void)si;
    interrupted = ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];
    stop = 1;
}

int main(void) {
    handle(SIGILL, set_regs, 0);
    long rax = 0x1111, r15, carry;
    __asm__ volatile("mov $0x2222, %%r15\n clc\n ud2\n setc %%cl\n movzbl %%cl, %%ecx\n mov %%r15, %1"
                     : "+a"(rax), "=r"(r15), "=c"(carry) : : "r15", "cc");
    CHECK(rax == 0x3333 && r15 == 0x4444 && carry == 1);
    sigset_t now;
    OK(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(sigismember(&now, SIGUSR2));
    sigdelset(&now, SIGUSR2);
    OK(sigprocmask(SIG_SETMASK, &now, NULL));

    handle(SIGUSR1, outer, 0);
    handle(SIGUSR2, inner, 0);
    raise(SIGUSR1);
    CHECK(n == 3 && order[0] == 1 && order[1] == 2 && order[2] == 3);

    n = 0;
    handle(SIGUSR1, jump, 0);
    int r = sigsetjmp(back, 1);
    if (r < 5) {
        raise(SIGUSR1);
        CHECK(!"returned");
    }
    CHECK(r == 5);

    // Interrupted anywhere in a computation: the result stays right.
    handle(SIGALRM, where, 0);
    struct itimerval it = {{0, 0}, {0, 3000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    uint64_t x = 1, steps = 0;
    while (!stop) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        steps++;
    }
    uint64_t y = 1;
    for (uint64_t i = 0; i < steps; i++) y = y * 6364136223846793005ull + 1442695040888963407ull;
    CHECK(x == y);
    printf("interrupted at %lx after %llu steps\n", (long)interrupted, (unsigned long long)steps);
    return 0;
}
