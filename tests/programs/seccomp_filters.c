// seccomp by the program itself: ERRNO, TRAP with SIGSYS, KILL of a thread and of a process, strict mode, inheritance over fork.
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <ucontext.h>

static void filter(int nr, uint32_t action) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {sizeof code / sizeof *code, code};
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

static volatile int traps;
static void on_sys(int s, siginfo_t *si, void *uc) {
    (void)s;
    traps++;
    CHECK(si->si_syscall == SYS_getppid && si->si_code == 1 /* SYS_SECCOMP */ && si->si_errno == 42);
    ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RAX] = 4242;
}

int main(void) {
    OK(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
    pid_t c = OK(fork());
    if (c == 0) {
        filter(SYS_getpgrp, SECCOMP_RET_ERRNO | EUCLEAN);
        FAILS(syscall(SYS_getpgrp), EUCLEAN);
        FAILS(syscall(SYS_getpgrp), EUCLEAN);
        CHECK(prctl(PR_GET_SECCOMP) == 2);
        pid_t k = OK(fork());
        if (k == 0) {
            FAILS(syscall(SYS_getpgrp), EUCLEAN);
            _exit(0);
        }
        wait_exit(k, 0);
        printf("errno in %d\n", getpid());
        _exit(0);
    }
    wait_exit(c, 0);
    c = OK(fork());
    if (c == 0) {
        handle(SIGSYS, on_sys, 0);
        filter(SYS_getppid, SECCOMP_RET_TRAP | 42);
        CHECK(syscall(SYS_getppid) == 4242 && syscall(SYS_getppid) == 4242 && traps == 2);
        _exit(0);
    }
    wait_exit(c, 0);
    c = OK(fork());
    if (c == 0) {
        filter(SYS_getppid, SECCOMP_RET_KILL_PROCESS);
        syscall(SYS_getppid);
        _exit(1);
    }
    wait_signal(c, SIGSYS);
    c = OK(fork());
    if (c == 0) {
        OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        if (write(1, "strict\n", 7) != 7) syscall(SYS_exit, 2);
        syscall(SYS_exit, 6);
    }
    wait_exit(c, 6);
    c = OK(fork());
    if (c == 0) {
        OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        syscall(SYS_getpid);
        syscall(SYS_exit, 6);
    }
    wait_signal(c, SIGKILL);
    return 0;
}
