// PTRACE_TRACEME and exec: the SIGTRAP behind it, PTRACE_EVENT_EXEC, memory and arguments of the new program, changed before it runs.
#include "ptrace.h"

static pid_t start(const char *how) {
    pid_t c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        if (how[0] == 'o') raise(SIGSTOP);
        execl("/proc/self/exe", "tracee", how, "first argument", NULL);
        _exit(99);
    }
    return c;
}

int main(int argc, char **argv) {
    if (argc == 3) {
        printf("tracee says %s\n", argv[2]);
        return argv[1][0] == 's' ? 11 : 12;
    }
    // Without options: a SIGTRAP.
    pid_t c = start("signal");
    STOPS(c, SIGTRAP);
    siginfo_t si;
    OK(ptrace(PTRACE_GETSIGINFO, c, 0, &si));
    CHECK(si.si_signo == SIGTRAP && si.si_code == SI_USER && si.si_pid == c);
    struct user_regs_struct r = regs_of(c);
    CHECK(r.orig_rax == SYS_execve && r.rax == 0);
    printf("new program at %llx, stack %llx\n", r.rip, r.rsp);
    CHECK(peek(c, (void *)r.rsp) == 3);
    char *arg = (char *)peek(c, (void *)(r.rsp + 24));
    char text[9] = {0};
    long word = peek(c, arg);
    memcpy(text, &word, 8);
    CHECK(strcmp(text, "first ar") == 0);
    memcpy(&word, "FIRST AR", 8);
    OK(ptrace(PTRACE_POKEDATA, c, arg, word));
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    wait_exit(c, 11);

    // With PTRACE_O_TRACEEXEC: an event.
    c = start("option");
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD));
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    STOPS(c, SIGTRAP | PTRACE_EVENT_EXEC << 8);
    unsigned long msg = 0;
    OK(ptrace(PTRACE_GETEVENTMSG, c, 0, &msg));
    CHECK((pid_t)msg == c);
    OK(ptrace(PTRACE_SYSCALL, c, 0, 0));
    STOPS(c, SIGTRAP | 0x80);
    r = regs_of(c);
    CHECK(r.orig_rax == SYS_execve && r.rax == 0);
    OK(ptrace(PTRACE_DETACH, c, 0, 0));
    wait_exit(c, 12);
    FAILS(ptrace(PTRACE_CONT, c, 0, 0), ESRCH);
    return 0;
}
