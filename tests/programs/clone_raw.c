// clone with raw flags: CLONE_VM without THREAD, CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_PARENT, SETTID and CLEARTID.
#include "check.h"
#include <linux/futex.h>
#include <linux/sched.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile int value;
static volatile pid_t set_in_parent, set_in_child, cleared = 99;

static int in_vm(void *arg) {
    value = (int)(long)arg;
    return 5;
}

static int in_files(void *arg) {
    (void)arg;
    int fd = open("made", O_CREAT | O_RDWR, 0600);
    dup2(fd, 50);
    return 0;
}

static int in_fs(void *arg) {
    (void)arg;
    chdir("sub");
    umask(0);
    return 0;
}

static int sibling(void *arg) {
    value = getppid() == (pid_t)(long)arg;
    return 9;
}

static int tids(void *arg) {
    (void)arg;
    CHECK(set_in_child == (pid_t)syscall(SYS_gettid));
    return 0;
}

int main(void) {
    char *top = stack + sizeof stack;
    int r = noise_u32() & 0xffffff;
    pid_t c = OK(clone(in_vm, top, CLONE_VM | SIGCHLD, (void *)(long)r));
    wait_exit(c, 5);
    CHECK(value == r);
    c = OK(clone(in_vm, top, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)3L));
    CHECK(value == 3);
    wait_exit(c, 5);
    value = 0;
    c = OK(clone(in_vm, top, SIGCHLD, (void *)4L));
    wait_exit(c, 5);
    CHECK(value == 0);

    c = OK(clone(in_files, top, CLONE_FILES | SIGCHLD, NULL));
    wait_exit(c, 0);
    CHECK(fcntl(50, F_GETFD) == 0);
    OK(mkdir("sub", 0700));
    char before[PATH_MAX], after[PATH_MAX];
    CHECK(getcwd(before, sizeof before));
    c = OK(clone(in_fs, top, CLONE_FS | SIGCHLD, NULL));
    wait_exit(c, 0);
    CHECK(getcwd(after, sizeof after) && strlen(after) == strlen(before) + 4 && umask(022) == 0);
    OK(chdir(before));

    // CLONE_PARENT: the new process is a child of our parent, so of the one below.
    pid_t mid = OK(fork());
    if (mid == 0) {
        pid_t s = clone(sibling, top, CLONE_PARENT | SIGCHLD, (void *)(long)getppid());
        CHECK(s > 0);
        FAILS(waitpid(s, NULL, 0), ECHILD);
        _exit(1);
    }
    int status, seen = 0;
    for (int i = 0; i < 2; i++) {
        pid_t got = OK(wait(&status));
        seen += got == mid ? WEXITSTATUS(status) : 10 * WEXITSTATUS(status);
    }
    CHECK(seen == 91);

    c = OK(clone(tids, top, CLONE_VM | CLONE_SIGHAND | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, NULL,
                 (pid_t *)&set_in_parent, NULL, (pid_t *)&set_in_child));
    CHECK(set_in_parent == c);
    wait_exit(c, 0);
    CHECK(set_in_child == 0); // cleared at its end

    // No exit signal: only __WALL or __WCLONE waits see it.
    c = OK(clone(in_vm, top, CLONE_VM, (void *)8L));
    FAILS(waitpid(c, &status, 0), ECHILD);
    CHECK(waitpid(c, &status, __WALL) == c && value == 8);
    FAILS(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
    FAILS(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0), EINVAL);
    printf("last %d value %d cleared %d\n", c, r, cleared);
    return 0;
}
