// Shared by the ptrace_*.c programs.
#pragma once
#include "check.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <stddef.h>
#include <sys/user.h>

// glibc's <sys/ptrace.h> does not go together with the kernel's header.
extern long ptrace(int, ...);

UNUSED static void traceme_or_exit(void) {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) == -1) _exit(77);
}

// Waits for a stop of this task; the status.
UNUSED static int wait_stop(pid_t pid) {
    int status = 0;
    pid_t got;
    do got = waitpid(pid, &status, __WALL); while (got == -1 && errno == EINTR);
    if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("already traced, cannot trace");
    if (got != pid || !WIFSTOPPED(status)) {
        dprintf(2, "task %d: wait gave %d, status %#x, wanted a stop\n", pid, got, status);
        check_failed(__FILE__, __LINE__, "wait_stop");
    }
    return status;
}

// Waits for a stop with exactly this status (WSTOPSIG | event << 8).
#define STOPS(pid, what) do { int s_ = wait_stop(pid); if (s_ >> 8 != (what)) { \
    dprintf(2, "status %#x, wanted %#x\n", s_ >> 8, (what)); CHECK(s_ >> 8 == (what)); } } while (0)

UNUSED static struct user_regs_struct regs_of(pid_t pid) {
    struct user_regs_struct r;
    OK(ptrace(PTRACE_GETREGS, pid, 0, &r));
    return r;
}

UNUSED static long peek(pid_t pid, const volatile void *at) {
    errno = 0;
    long v = ptrace(PTRACE_PEEKDATA, pid, at, 0);
    CHECK(errno == 0);
    return v;
}
