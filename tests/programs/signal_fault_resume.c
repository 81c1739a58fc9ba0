// SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP handled; the handler repairs the cause or moves the instruction pointer.
#include "check.h"
#include <setjmp.h>
#include <ucontext.h>

static char *page;
static volatile int segv, fpe, ill, trap, bus;

static void on_segv(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    segv++;
    CHECK(si->si_code == SEGV_ACCERR && (char *)si->si_addr >= page && (char *)si->si_addr < page + 4096);
    OK(mprotect(page, 4096, PROT_READ | PROT_WRITE));
}

static void skip(ucontext_t *uc, int n) { uc->uc_mcontext.gregs[REG_RIP] += n; }

static void on_fpe(int s, siginfo_t *si, void *uc) {
    (void)s;
    fpe++;
    CHECK(si->si_code == FPE_INTDIV);
    ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RCX] = 3;
}

static void on_ill(int s, siginfo_t *si, void *uc) {
    (void)s;
    ill++;
    CHECK(si->si_code == ILL_ILLOPN || si->si_code == ILL_ILLOPC);
    skip(uc, 2);
}

static void on_trap(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    trap++;
    CHECK(si->si_code == SI_KERNEL || si->si_code == TRAP_BRKPT);
}

static sigjmp_buf back;
static void on_bus(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    bus++;
    CHECK(si->si_code == BUS_ADRERR);
    siglongjmp(back, bus);
}


int main(void) {
    page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    handle(SIGSEGV, on_segv, 0);
    for (int i = 0; i < 20; i++) {
        page[i] = i;
        CHECK(segv == i + 1 && page[i] == i);
        OK(mprotect(page, 4096, PROT_READ));
    }
    handle(SIGFPE, on_fpe, 0);
    long a = 10, d = 0;
    __asm__ volatile("idivq %%rcx" : "+a"(a), "+d"(d) : "c"(0L));
    CHECK(fpe == 1 && a == 3 && d == 1);
    handle(SIGILL, on_ill, 0);
    __asm__ volatile("ud2");
    CHECK(ill == 1);
    handle(SIGTRAP, on_trap, 0);
    __asm__ volatile("int3");
    CHECK(trap == 1);

    handle(SIGBUS, on_bus, 0);
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 100));
    volatile char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    m[50] = 1;
    if (sigsetjmp(back, 1) == 0) {
        m[5000] = 1;
        CHECK(!"no SIGBUS");
    }
    CHECK(bus == 1);
    if (sigsetjmp(back, 1) == 0) {
        CHECK(m[4096] == 0);
        CHECK(!"no SIGBUS");
    }
    CHECK(bus == 2);
    OK(ftruncate(fd, 8192));
    m[5000] = 1;
    printf("page %p segv %d\n", page, segv);
    return 0;
}
