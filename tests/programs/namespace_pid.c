// In a pid namespace: ids that clone, vfork and clone3 give and store, and what signals do to its first
// process: nothing by default, unless an instruction causes them. Skipped where it is refused.
#include "check.h"
#include <linux/sched.h>
#include <spawn.h>

static volatile pid_t stored, at_parent;

static int inside(void) {
    int status;
    CHECK(getpid() == 1 && stored == 1);
    OK(kill(1, SIGTERM));
    OK(kill(getpid(), SIGQUIT));
    raise(SIGHUP);
    pid_t child = OK(vfork());
    if (child == 0) _exit(getpid());
    CHECK(child == 2 && OK(waitpid(2, &status, 0)) == 2 && WEXITSTATUS(status) == 2);
    char *args[] = {"true", NULL};
    OK0(posix_spawnp(&child, "true", NULL, NULL, args, NULL));
    CHECK(child == 3);
    wait_exit(child, 0);
    struct clone_args clone3 = {
        .flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
        .exit_signal = SIGCHLD,
        .child_tid = (uintptr_t)&stored,
        .parent_tid = (uintptr_t)&at_parent,
    };
    child = OK(syscall(SYS_clone3, &clone3, sizeof clone3));
    if (child == 0) _exit(stored == getpid() ? 0 : 1);
    CHECK(child == 4 && at_parent == 4);
    wait_exit(child, 0);
    return 0;
}

int main(void) {
    int status;
    const int flags = CLONE_NEWPID | CLONE_CHILD_SETTID | CLONE_PARENT_SETTID | SIGCHLD;
    if (geteuid() != 0 && unshare(CLONE_NEWUSER) == -1) SKIP("no user namespaces");
    pid_t first = syscall(SYS_clone, flags, 0, &at_parent, &stored, 0);
    if (first == -1) SKIP("no pid namespaces");
    if (first == 0) _exit(inside());
    CHECK(at_parent == first);
    wait_exit(first, 0);
    first = OK(syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
    if (first == 0) *(volatile int *)16 = 1;
    CHECK(OK(waitpid(first, &status, 0)) == first);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    noise("end");
    return 0;
}
