// Breakpoints: int3 poked into a function, stepped over and put back each time it is hit, in a process and in threads that share the text; extended registers changed.
// cflags: -pthread
#include "ptrace.h"

static volatile long calls;
__attribute__((noinline, aligned(16))) static double target(double x, long n) {
    __asm__ volatile("");
    calls += n;
    return x + 1;
}
static void *thread(void *a) { double s = 0; for (int i = 0; i < 5; i++) s += target(1, (long)a); return (void *)(long)s; }

static long text;
static void insert(pid_t t) { OK(ptrace(PTRACE_POKETEXT, t, target, (text & ~0xffl) | 0xcc)); }
static void take(pid_t t) { OK(ptrace(PTRACE_POKETEXT, t, target, text)); }

int main(void) {
    pid_t c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        raise(SIGSTOP);
        double s = 0;
        for (int i = 0; i < 10; i++) s += target(i, 1);
        CHECK(s == 45 + 10 + 1000 && calls == 10 + 100);
        pthread_t t[2];
        for (long i = 0; i < 2; i++) OK0(pthread_create(&t[i], NULL, thread, (void *)1));
        for (int i = 0; i < 2; i++) OK0(pthread_join(t[i], NULL));
        _exit((int)calls);
    }
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL));
    text = ptrace(PTRACE_PEEKTEXT, c, target, 0);
    insert(c);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    int hits = 0, running = 1, threads = 1, ends = 0;
    while (running) {
        int status;
        pid_t w = waitpid(-1, &status, __WALL);
        CHECK(w > 0);
        if (!WIFSTOPPED(status)) {
            ends++;
            if (w == c) { running = 0; CHECK(WIFEXITED(status)); printf("exit %d\n", WEXITSTATUS(status)); }
            continue;
        }
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8)) { threads++; OK(ptrace(PTRACE_CONT, w, 0, 0)); continue; }
        if (WSTOPSIG(status) == SIGSTOP) { OK(ptrace(PTRACE_CONT, w, 0, 0)); continue; }
        CHECK(WSTOPSIG(status) == SIGTRAP);
        struct user_regs_struct r = regs_of(w);
        CHECK(r.rip == (uintptr_t)target + 1);
        siginfo_t si;
        OK(ptrace(PTRACE_GETSIGINFO, w, 0, &si));
        CHECK(si.si_signo == SIGTRAP && si.si_code == SI_KERNEL);
        hits++;
        r.rip--;
        if (hits == 3) r.rdi = 101;
        OK(ptrace(PTRACE_SETREGS, w, 0, &r));
        if (hits == 4) {
            struct user_fpregs_struct f;
            OK(ptrace(PTRACE_GETFPREGS, w, 0, &f));
            double x;
            memcpy(&x, f.xmm_space, 8);
            CHECK(x == 3);
            x += 1000;
            memcpy(f.xmm_space, &x, 8);
            OK(ptrace(PTRACE_SETFPREGS, w, 0, &f));
            char area[8192];
            struct iovec v = {area, sizeof area};
            OK(ptrace(PTRACE_GETREGSET, w, NT_X86_XSTATE, &v));
            CHECK(v.iov_len > 512 && memcmp(area + 160, &x, 8) == 0);
            OK(ptrace(PTRACE_SETREGSET, w, NT_X86_XSTATE, &v));
            struct user_regs_struct q;
            v = (struct iovec){&q, sizeof q};
            OK(ptrace(PTRACE_GETREGSET, w, NT_PRSTATUS, &v));
            CHECK(v.iov_len == sizeof q && memcmp(&q, &r, sizeof q) == 0);
        }
        if (hits <= 10) {
            // The others stand still or do not exist: take it out, step, put it back.
            take(w);
            OK(ptrace(PTRACE_SINGLESTEP, w, 0, 0));
            STOPS(w, SIGTRAP);
            insert(w);
            r = regs_of(w);
            CHECK(r.rip > (uintptr_t)target && r.rip < (uintptr_t)target + 16);
        } else if (hits == 13) {
            // While the other thread may be running.
            take(w);
        } else {
            // The first instruction by hand: whatever it is, single-step it with the text restored.
            take(w);
            OK(ptrace(PTRACE_SINGLESTEP, w, 0, 0));
            int s = wait_stop(w);
            CHECK(WSTOPSIG(s) == SIGTRAP || WSTOPSIG(s) == SIGSTOP);
            insert(w);
        }
        OK(ptrace(PTRACE_CONT, w, 0, 0));
    }
    printf("%d hits, %d tasks, %d ends\n", hits, threads, ends);
    CHECK(hits >= 11 && threads == 3 && ends == 3);
    return 0;
}
