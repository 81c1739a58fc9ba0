// unshare of user, uts, mount and network namespaces, clone into a pid namespace. Skipped where it is refused.
#include "check.h"
#include <net/if.h>
#include <sys/mount.h>

static void put(const char *path, const char *text) {
    int fd = OK(open(path, O_WRONLY));
    write_all(fd, text, strlen(text));
    OK(close(fd));
}

static char stack[65536] __attribute__((aligned(16)));
static int init(void *arg) {
    (void)arg;
    CHECK(getpid() == 1);
    pid_t k = fork();
    if (k == 0) _exit(getpid() == 2 && getppid() == 1 ? 0 : 1);
    wait_exit(k, 0);
    return 12;
}

int main(void) {
    int uid = getuid(), gid = getgid();
    if (unshare(CLONE_NEWUSER) == -1) {
        CHECK(errno == EPERM || errno == ENOSYS || errno == ENOSPC);
        SKIP("no user namespaces");
    }
    char map[64];
    put("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %d 1", uid);
    put("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %d 1", gid);
    put("/proc/self/gid_map", map);
    CHECK(getuid() == 0 && getgid() == 0);
    OK(unshare(CLONE_NEWUTS));
    char name[32], got[64];
    snprintf(name, sizeof name, "h%08x", noise_u32());
    OK(sethostname(name, strlen(name)));
    OK(gethostname(got, sizeof got));
    CHECK(strcmp(name, got) == 0);
    if (unshare(CLONE_NEWNS) == 0) {
        OK(mkdir("m", 0700));
        if (mount("none", "m", "tmpfs", 0, NULL) == 0) {
            write_file("m/inside", "1", 1);
            CHECK(access("m/inside", F_OK) == 0);
            OK(umount("m"));
            FAILS(access("m/inside", F_OK), ENOENT);
        }
    }
    OK(unshare(CLONE_NEWNET));
    struct if_nameindex *list = if_nameindex();
    CHECK(list && strcmp(list[0].if_name, "lo") == 0);
    pid_t c = OK(clone(init, stack + sizeof stack, CLONE_NEWPID | SIGCHLD, NULL));
    wait_exit(c, 12);
    char link[64] = "";
    OK(readlink("/proc/self/ns/user", link, sizeof link - 1));
    printf("%s %s child %d\n", name, link, c);
    return 0;
}
