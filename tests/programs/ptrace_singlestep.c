// Thousands of single steps: a loop counted instruction by instruction, over calls, cpuid, a handler's entry and string instructions.
#include "ptrace.h"

static volatile int hits;
static void on_usr1(int sig) { hits += sig; }
static char from[64] = "string instructions count as one step each time round", to[64];

__attribute__((noinline)) static void body(int n) {
    unsigned a = 0, b, c = 0, d;
    for (int i = 0; i < n; i++) __asm__ volatile("nop; nop");
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    __asm__ volatile("rdtsc" : "=a"(a), "=d"(d));
    const char *s = from;
    char *t = to;
    long len = sizeof from;
    __asm__ volatile("rep movsb" : "+S"(s), "+D"(t), "+c"(len) : : "memory");
    syscall(SYS_getppid);
}

int main(void) {
    pid_t c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        signal(SIGUSR1, on_usr1);
        raise(SIGSTOP);
        body(200);
        raise(SIGUSR1);
        _exit(strcmp(from, to) == 0 ? hits : 1);
    }
    STOPS(c, SIGSTOP);
    long steps = 0, in_body = 0, calls = 0, sum = 0;
    unsigned long last = 0;
    siginfo_t si;
    int status;
    for (;;) {
        OK(ptrace(PTRACE_SINGLESTEP, c, 0, 0));
        status = wait_stop(c);
        if (WSTOPSIG(status) != SIGTRAP) break;
        struct user_regs_struct r = regs_of(c);
        steps++;
        sum += r.rip - last;
        last = r.rip;
        in_body += r.rip >= (uintptr_t)body && r.rip < (uintptr_t)body + 256;
        OK(ptrace(PTRACE_GETSIGINFO, c, 0, &si));
        CHECK(si.si_signo == SIGTRAP && (si.si_code == TRAP_TRACE || si.si_code == TRAP_BRKPT));
        calls += si.si_code == TRAP_BRKPT;
    }
    printf("%ld steps, %ld in the function, %ld calls, last at %lx\n", steps, in_body, calls, last);
    CHECK(steps > 1000 && in_body > 600 && calls >= 1 && sum != 0);
    // A signal's delivery is followed by a stop at the handler's first instruction.
    CHECK(WSTOPSIG(status) == SIGUSR1);
    OK(ptrace(PTRACE_SINGLESTEP, c, 0, SIGUSR1));
    STOPS(c, SIGTRAP);
    struct user_regs_struct r = regs_of(c);
    CHECK(r.rip == (uintptr_t)on_usr1 && r.rdi == SIGUSR1);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    wait_exit(c, SIGUSR1);
    return 0;
}
