// What a handler is told of the exception itself: its number, its error code (a read, a write, a fetch), the address of the last page fault.
#include "check.h"
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static const char *what;
static long long wanted_trap, wanted_err;
static long long cr2;

static void on_fault(int sig, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    dprintf(1, "%s: signal %d code %d trap %lld error %llx\n", what, sig, info->si_code,
            regs[REG_TRAPNO], regs[REG_ERR]);
    CHECK(regs[REG_TRAPNO] == wanted_trap && (regs[REG_ERR] & ~1ll) == wanted_err);
    if (wanted_trap == 14) cr2 = (long long)info->si_addr;
    CHECK(regs[REG_CR2] == cr2);
    siglongjmp(back, 1);
}

// The lowest bit, whether there was a page, is not looked at.
#define FAULTS(name, trap, err, code) do { \
    what = name; wanted_trap = trap; wanted_err = err; \
    if (!sigsetjmp(back, 1)) { code; CHECK(!"no fault"); } \
    } while (0)
#define ASM(text, ...) __asm__ volatile(text : : __VA_ARGS__ : "memory", "rax", "rbx")

static char other_stack[65536], place[64];

int main(void) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    OK(sigaltstack(&stack, NULL));
    const int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (int i = 0; i < 4; i++) handle(all[i], on_fault, SA_ONSTACK);
    volatile int *none = (int *)0x1000, *kernel = (int *)0xffff888000000000;
    char *file = (write_file("one", "x", 1),
                  mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, OK(open("one", O_RDWR)), 0));
    char *data = OK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    (void)*(volatile char *)data;

    FAULTS("read", 14, 4, (void)*none);
    FAULTS("write", 14, 6, *none = 1);
    FAULTS("both", 14, 6, ASM("addl $1, (%0)", "r"(none)));
    FAULTS("compare", 14, 4, ASM("cmpl $1, (%0)", "r"(none)));
    FAULTS("exchange", 14, 6, ASM("xchg %%eax, (%0)", "r"(none)));
    FAULTS("bit", 14, 6, ASM("bts %0, (%1)", "r"(100l), "r"(none)));
    FAULTS("read-only", 14, 6, *data = 1);
    FAULTS("vector write", 14, 6, ASM("movups %%xmm0, (%0)", "r"(none)));
    FAULTS("vector read", 14, 4, ASM("movups (%0), %%xmm0", "r"(none)));
    FAULTS("copy to", 14, 6, ASM("rep movsb", "D"(none), "S"(place), "c"(4l)));
    FAULTS("copy from", 14, 4, ASM("rep movsb", "S"(none), "D"(place), "c"(4l)));
    FAULTS("push", 14, 6, ASM("mov %0, %%rsp\n push %%rax", "r"(0x1800l)));
    FAULTS("pop", 14, 4, ASM("mov %0, %%rsp\n pop %%rax", "r"(0x1800l)));
    FAULTS("fetch", 14, 0x14, ((void (*)(void))0x1000)());
    FAULTS("fetch of data", 14, 0x14, ((void (*)(void))data)());
    FAULTS("kernel read", 14, 4, (void)*kernel);
    FAULTS("kernel write", 14, 6, *kernel = 1);
    FAULTS("behind a file", 14, 4, (void)*(volatile char *)(file + 4096));
    FAULTS("write behind a file", 14, 6, file[4096] = 1);
    // No page faults: the address of the last one stays.
    FAULTS("no address", 13, 0, (void)*(volatile int *)0x8000000000000000);
    FAULTS("no stack", 12, 0, ASM("mov %0, %%rsp\n pop %%rax", "r"(0x8000000000001800ull)));
    FAULTS("gate", 13, 0x10a, ASM("int $0x21"));
    FAULTS("privilege", 13, 0, ASM("hlt"));
    FAULTS("undefined", 6, 0, ASM("ud2"));
    FAULTS("division", 0, 0, ASM("xor %%ebx, %%ebx\n idivl %%ebx", "d"(0)));
    unsigned csr = 0x1d80;
    FAULTS("vector division", 19, 0, ASM("ldmxcsr %0\n pxor %%xmm0, %%xmm0\n divss %%xmm0, %%xmm1", "m"(csr)));
    unsigned short control = 0x37b;
    FAULTS("x87 division", 16, 0, ASM("fninit\n fldcw %0\n fld1\n fldz\n fdivrp\n fwait", "m"(control)));
    noise("end");
}
