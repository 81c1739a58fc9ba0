// Filters and strict mode that end a thread end only that; its process goes on. The last thread takes the process with it.
// cflags: -pthread
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void no_getppid(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {4, code};
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static volatile int before, behind;

static void *filtered(void *arg) {
    no_getppid();
    OK(getpid());
    before++;
    syscall(SYS_getppid);
    behind++;
    return arg;
}

static void *strict(void *arg) {
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    before++;
    syscall(SYS_getppid);
    behind++;
    return arg;
}

static pthread_t leader;

// Waits for the end of the first thread, then ends the process by itself.
static void *outlives(void *arg) {
    OK0(pthread_join(leader, NULL));
    noise("outlives");
    syscall(SYS_exit, 3);
    return arg;
}

int main(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) OK0(pthread_create(&t[i], NULL, i & 1 ? strict : filtered, NULL));
    for (int i = 0; i < 4; i++) OK0(pthread_join(t[i], NULL));
    CHECK(before == 4 && behind == 0);

    // In a process that shares its memory with this one, too.
    volatile int *shared = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_t c = OK(fork());
    if (c == 0) {
        leader = pthread_self();
        OK0(pthread_create(&t[0], NULL, outlives, NULL));
        *shared = 1;
        no_getppid();
        syscall(SYS_getppid);
        _exit(1);
    }
    // That of the last thread since Linux 5.16, before that that of the first.
    int status;
    CHECK(OK(waitpid(c, &status, 0)) == c);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGSYS : WEXITSTATUS(status) == 3);
    CHECK(*shared == 1);
    c = OK(fork());
    if (c == 0) {
        no_getppid();
        syscall(SYS_getppid);
        _exit(1);
    }
    wait_signal(c, SIGSYS);
    c = OK(fork());
    if (c == 0) strict(NULL);
    wait_signal(c, SIGKILL);

    return 0;
}
