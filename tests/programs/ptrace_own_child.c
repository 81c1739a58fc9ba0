// ptrace by the program on its own child: TRACEME, registers, peek and poke, single steps, system call stops, seize and interrupt, a breakpoint.
#include "check.h"
#include <sys/ptrace.h>
#include <sys/user.h>
#include <stddef.h>

static volatile long word = 5;

__attribute__((noinline, aligned(16))) static long target(long x) {
    __asm__ volatile("");
    return x * 2;
}

int main(void) {
    int status;
    pid_t c = OK(fork());
    if (c == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) == -1) _exit(77);
        raise(SIGSTOP);
        if (word != 6) _exit(1);
        for (volatile int i = 0; i < 5; i++) {}
        syscall(SYS_getppid);
        _exit((int)target(8));
    }
    CHECK(waitpid(c, &status, 0) == c);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("already traced, cannot trace");
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT));
    errno = 0;
    CHECK(ptrace(PTRACE_PEEKDATA, c, &word, 0) == 5 && errno == 0);
    OK(ptrace(PTRACE_POKEDATA, c, &word, 6));
    struct user_regs_struct r;
    OK(ptrace(PTRACE_GETREGS, c, 0, &r));
    printf("child %d at %llx\n", c, r.rip);
    for (int i = 0; i < 10; i++) {
        OK(ptrace(PTRACE_SINGLESTEP, c, 0, 0));
        CHECK(waitpid(c, &status, 0) == c && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    }
    struct user_regs_struct q;
    OK(ptrace(PTRACE_GETREGS, c, 0, &q));
    CHECK(q.rip != r.rip);
    long code = ptrace(PTRACE_PEEKTEXT, c, target, 0);
    OK(ptrace(PTRACE_POKETEXT, c, target, (code & ~0xffl) | 0xcc));
    int calls = 0, broke = 0, done = 0;
    while (!done) {
        OK(ptrace(PTRACE_SYSCALL, c, 0, 0));
        CHECK(waitpid(c, &status, 0) == c && WIFSTOPPED(status));
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) done = 1;
        else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            OK(ptrace(PTRACE_GETREGS, c, 0, &r));
            if (r.orig_rax == SYS_getppid) calls++;
            if (r.orig_rax == SYS_getppid && calls == 2) CHECK((pid_t)r.rax == getpid());
        } else {
            CHECK(WSTOPSIG(status) == SIGTRAP);
            broke++;
            OK(ptrace(PTRACE_GETREGS, c, 0, &r));
            CHECK(r.rip == (uintptr_t)target + 1 && r.rdi == 8);
            OK(ptrace(PTRACE_POKETEXT, c, target, code));
            r.rip--;
            r.rdi = 10;
            OK(ptrace(PTRACE_SETREGS, c, 0, &r));
        }
    }
    CHECK(calls == 2 && broke == 1);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    wait_exit(c, 20);

    c = OK(fork());
    if (c == 0) for (;;) pause();
    OK(ptrace(PTRACE_SEIZE, c, 0, 0));
    OK(ptrace(PTRACE_INTERRUPT, c, 0, 0));
    CHECK(waitpid(c, &status, 0) == c && WIFSTOPPED(status));
    OK(ptrace(PTRACE_DETACH, c, 0, 0));
    OK(kill(c, SIGTERM));
    wait_signal(c, SIGTERM);
    return 0;
}
