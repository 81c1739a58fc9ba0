// System call instructions in awkward places: a jump to the syscall itself, a branch behind it, two sharing one, at a page border, int 0x80, red zone in use.
#include "check.h"

__attribute__((noinline)) static long direct(long nr) {
    long r;
    __asm__ volatile("mov $110, %%eax\n"
                     "cmp $0, %1\n"
                     "je 1f\n"
                     "mov %1, %%rax\n"
                     "jmp 2f\n"
                     "1: mov $39, %%eax\n"
                     "2: syscall\n" // reached from the mov before it and by a jump
                     : "=&a"(r) : "r"(nr) : "rcx", "r11", "cc", "memory");
    return r;
}

__attribute__((noinline)) static long red_zone(void) {
    // A leaf that keeps data below the stack pointer over a call.
    long r, v;
    __asm__ volatile("movq $0x77, -8(%%rsp)\n movq $0x88, -120(%%rsp)\n"
                     "mov $110, %%eax\n syscall\n"
                     "mov -8(%%rsp), %1\n add -120(%%rsp), %1\n"
                     : "=&a"(r), "=&r"(v) : : "rcx", "r11", "memory");
    CHECK(v == 0xff);
    return r;
}

__attribute__((noinline)) static long loop_back(void) {
    // The branch target lies directly behind the instruction, in the bytes that a patch would need.
    long n = 0, r = 0;
    __asm__ volatile("xor %0, %0\n"
                     "1: mov $39, %%eax\n"
                     "syscall\n"
                     "2: inc %0\n"
                     "cmp $3, %0\n"
                     "je 3f\n"
                     "test $1, %0\n"
                     "jnz 2b\n"
                     "jmp 1b\n"
                     "3:\n" : "+&r"(n), "+&a"(r) : : "rcx", "r11", "cc", "memory");
    CHECK(n == 3);
    return r;
}

__attribute__((noinline)) static long int80(void) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "r8", "r9", "r10", "r11", "memory"); // getpid of the 32-bit table
    return r;
}

__attribute__((noinline)) static long many_registers(void) {
    long r;
    long x = 1;
    __asm__ volatile("mov $1, %%rbx\n mov $2, %%r12\n mov $3, %%r13\n mov $4, %%r14\n mov $5, %%r15\n mov $6, %%r8\n mov $7, %%r9\n mov $8, %%r10\n mov $9, %%rdx\n"
                     "movq %%rbx, %%xmm0\n movq %%r15, %%xmm15\n"
                     "mov $39, %%eax\n syscall\n"
                     "add %%rbx, %1\n add %%r12, %1\n add %%r13, %1\n add %%r14, %1\n add %%r15, %1\n add %%r8, %1\n add %%r9, %1\n add %%r10, %1\n add %%rdx, %1\n"
                     "movq %%xmm0, %%rbx\n add %%rbx, %1\n movq %%xmm15, %%rbx\n add %%rbx, %1\n"
                     : "=&a"(r), "+&r"(x) : : "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdx", "xmm0", "xmm15", "cc", "memory");
    CHECK(x == 1 + 45 + 1 + 5);
    return r;
}

int main(void) {
    pid_t me = getpid(), up = getppid();
    for (int i = 0; i < 50; i++) {
        CHECK(direct(0) == me);
        CHECK(direct(110) == up);
        CHECK(red_zone() == up);
        CHECK(loop_back() == me);
        CHECK(many_registers() == me);
    }
    // rcx holds the return address and r11 the flags after a call.
    uint64_t rcx, r11, here, rax = 39;
    __asm__ volatile("lea 1f(%%rip), %3\n syscall\n 1:" : "+a"(rax), "=c"(rcx), "=&r"(r11), "=&r"(here) : : "r11", "memory");
    CHECK((pid_t)rax == me && rcx == here);
    // A call that straddles two pages, the second executable too.
    unsigned char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(p + 4096 - 6, code, sizeof code);
    OK(mprotect(p, 8192, PROT_READ | PROT_EXEC));
    for (int i = 0; i < 10; i++) CHECK(((pid_t (*)(void))(p + 4096 - 6))() == me);
    long old = 0;
    pid_t c = OK(fork());
    if (c == 0) _exit(int80() == getpid() ? 0 : 1); // SIGSEGV where there is no 32-bit entry
    int status;
    CHECK(waitpid(c, &status, 0) == c);
    old = status;
    printf("me %d above %d int80 status %lx\n", me, up, old);
    return 0;
}
