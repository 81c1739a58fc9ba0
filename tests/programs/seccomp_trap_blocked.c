// SECCOMP_RET_TRAP where SIGSYS is blocked, or ignored: the signal is forced, and ends the process.
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void handler(int sig) { (void)sig; }

static void trapped(int blocked) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {4, code};
    pid_t child = OK(fork());
    if (child == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGSYS);
        signal(SIGSYS, blocked ? handler : SIG_IGN);
        if (blocked) OK(sigprocmask(SIG_BLOCK, &set, NULL));
        OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
        syscall(SYS_getpgid, 0);
        _exit(3);
    }
    int status;
    CHECK(OK(waitpid(child, &status, 0)) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

int main(void) {
    trapped(1);
    trapped(0);
    noise("end");
    return 0;
}
