// A bare thread made by clone with raw flags and its own stack, joined by CLEARTID futex; clone3 with exit signal and set_tid refused or granted.
#include "check.h"
#include <linux/futex.h>
#include <linux/sched.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile uint32_t tid_word = 1;
static volatile int ran, same_process;

static int thread(void *arg) {
    ran = (int)(long)arg;
    same_process = syscall(SYS_getpid) != syscall(SYS_gettid);
    syscall(SYS_exit, 0);
    return 0;
}

int main(void) {
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
    int r = noise_u32() & 0xffff;
    int tid = OK(clone(thread, stack + sizeof stack, flags, (void *)(long)r, NULL, NULL, (pid_t *)&tid_word));
    while (tid_word) syscall(SYS_futex, &tid_word, FUTEX_WAIT, 1, NULL, NULL, 0);
    CHECK(ran == r && same_process);
    printf("thread %d\n", tid);

    int child_tid = 0, parent_tid = 0;
    struct clone_args a = {.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, .exit_signal = SIGCHLD,
        .parent_tid = (uintptr_t)&parent_tid, .child_tid = (uintptr_t)&child_tid};
    long c = syscall(SYS_clone3, &a, sizeof a);
    if (c == -1 && errno == ENOSYS) SKIP("no clone3");
    if (c == 0) _exit(child_tid == getpid() ? 6 : 7);
    CHECK(c > 0 && parent_tid == c && child_tid == 0);
    wait_exit(c, 6);
    FAILS(syscall(SYS_clone3, &a, 8), EINVAL);
    a.flags = CLONE_DETACHED;
    FAILS(syscall(SYS_clone3, &a, sizeof a), EINVAL);
    printf("child %ld\n", c);
    return 0;
}
