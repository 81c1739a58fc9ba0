// A small strace: entries and exits, PTRACE_GET_SYSCALL_INFO, calls that signals interrupt and that are restarted, calls changed or skipped by the tracer, forks followed.
#include "ptrace.h"

static volatile int got;
static void on_usr1(int sig) { got = sig; }

static void child(int *p) {
    traceme_or_exit();
    raise(SIGSTOP);
    char b[4];
    // Changed by the tracer: getppid becomes getpid, getuid is skipped, getgid's result replaced.
    CHECK(syscall(SYS_getppid) == getpid());
    CHECK(syscall(SYS_getuid) == 4711);
    CHECK(syscall(SYS_getgid) == 4712);
    // Restarted without the program seeing it.
    struct sigaction sa = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    OK(sigaction(SIGUSR1, &sa, NULL));
    CHECK(read(p[0], b, 1) == 1 && b[0] == 'x' && got == SIGUSR1);
    // A sleep, interrupted by an ignored signal.
    struct timespec t = {0, 900000000};
    CHECK(nanosleep(&t, NULL) == 0);
    // And one with a handler.
    sa.sa_flags = 0;
    OK(sigaction(SIGUSR1, &sa, NULL));
    got = 0;
    FAILS(read(p[0], b, 1), EINTR);
    CHECK(got == SIGUSR1);
    pid_t g = OK(fork());
    if (g == 0) _exit((int)(getpid() == syscall(SYS_gettid)) + 20);
    wait_exit(g, 21);
    _exit(33);
}

int main(void) {
    int p[2];
    OK(pipe(p));
    pid_t c = OK(fork());
    if (c == 0) child(p);
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL));
    OK(ptrace(PTRACE_SYSCALL, c, 0, 0));
    int calls = 0, entered = 0, restarts = 0, sent = 0, reads = 0, sleeps = 0, tasks = 1, infos = 0;
    pid_t other = 0;
    int other_in = 0, skipped = 0;
    while (tasks > 0) {
        int status, sig = 0;
        pid_t w = waitpid(-1, &status, __WALL);
        CHECK(w > 0);
        if (WIFEXITED(status)) {
            CHECK(WEXITSTATUS(status) == (w == c ? 33 : 21));
            tasks--;
            continue;
        }
        CHECK(WIFSTOPPED(status));
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8)) {
            unsigned long msg;
            OK(ptrace(PTRACE_GETEVENTMSG, c, 0, &msg));
            CHECK(w == c && (!other || other == (pid_t)msg));
            other = msg;
            tasks++;
        } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            struct ptrace_syscall_info info = {0};
            CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, w, sizeof info, &info) > 24);
            int *in = w == c ? &entered : &other_in;
            *in = !*in;
            CHECK(info.op == (*in ? PTRACE_SYSCALL_INFO_ENTRY : PTRACE_SYSCALL_INFO_EXIT));
            CHECK(info.arch == 0xc000003e);
            infos++;
            struct user_regs_struct r = regs_of(w);
            CHECK(info.instruction_pointer == r.rip && info.stack_pointer == r.rsp);
            long nr = r.orig_rax;
            if (*in) {
                calls++;
                CHECK(info.entry.nr == r.orig_rax && info.entry.args[0] == r.rdi && (long)r.rax == -ENOSYS);
                if (nr == SYS_getppid) { r.orig_rax = SYS_getpid; OK(ptrace(PTRACE_SETREGS, w, 0, &r)); }
                if (nr == SYS_getuid) { r.orig_rax = -1; OK(ptrace(PTRACE_SETREGS, w, 0, &r)); }
                if (nr == SYS_read && r.rdi == (unsigned)p[0]) reads++;
                if (nr == SYS_clock_nanosleep || nr == SYS_nanosleep || nr == SYS_restart_syscall) sleeps++;
            } else {
                CHECK(info.exit.rval == (long)r.rax);
                CHECK(info.exit.is_error == ((long)r.rax < 0 && (long)r.rax >= -4095));
                if (nr == -1 && !skipped++) { r.rax = 4711; OK(ptrace(PTRACE_SETREGS, w, 0, &r)); }
                if (nr == SYS_getgid) OK(ptrace(PTRACE_POKEUSR, w, offsetof(struct user_regs_struct, rax), 4712));
                // The wait for the grandchild may be broken off by its SIGCHLD, or not.
                if ((long)r.rax <= -512 && (long)r.rax >= -516 && nr != SYS_wait4) restarts++;
            }
        } else {
            sig = WSTOPSIG(status);
            if (sig == SIGSTOP && (w == other || !other)) { other = w; sig = 0; }
            siginfo_t si;
            OK(ptrace(PTRACE_GETSIGINFO, w, 0, &si));
            CHECK(sig == 0 || si.si_signo == sig);
        }
        OK(ptrace(PTRACE_SYSCALL, w, 0, sig));
        // While it waits in its calls: it has to get there first, on a busy machine too.
        if (w == c && entered && reads == 1 && sent == 0) { sleep_us(40000); OK(kill(c, SIGUSR1)); sent++; }
        else if (w == c && entered && reads == 2 && sent == 1) { sleep_us(40000); write_all(p[1], "x", 1); sent++; }
        else if (w == c && entered && sleeps == 1 && sent == 2) { sleep_us(40000); OK(kill(c, SIGWINCH)); sent++; }
        else if (w == c && entered && reads == 3 && sent == 3) { sleep_us(40000); OK(kill(c, SIGUSR1)); sent++; }
    }
    printf("%d calls, %d broken off, %d stops at calls\n", calls, restarts, infos);
    CHECK(restarts == 3 && sleeps == 2 && reads == 3 && sent == 4);
    FAILS(waitpid(-1, NULL, __WALL), ECHILD);
    return 0;
}
