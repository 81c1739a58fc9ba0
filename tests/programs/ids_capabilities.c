// User and group ids, groups, capget and capset, setuid to an ordinary user and back refused (as root), personality.
#include "check.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/personality.h>

int main(void) {
    uid_t r, e, s;
    gid_t gr, ge, gs;
    OK(getresuid(&r, &e, &s));
    OK(getresgid(&gr, &ge, &gs));
    CHECK(r == getuid() && e == geteuid() && gr == getgid());
    int n = OK(getgroups(0, NULL));
    gid_t *g = malloc((n + 1) * sizeof *g);
    CHECK(getgroups(n, g) == n);
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    OK(syscall(SYS_capget, &h, d));
    printf("uid %d gid %d groups %d effective %x%08x\n", r, gr, n, d[1].effective, d[0].effective);
    h.version = 1;
    FAILS(syscall(SYS_capget, &h, d), EINVAL);
    CHECK(h.version == _LINUX_CAPABILITY_VERSION_3);
    unsigned long p = personality(0xffffffff);
    CHECK((int)personality(p | ADDR_NO_RANDOMIZE) != -1);
    CHECK((unsigned)personality(0xffffffff) == (p | ADDR_NO_RANDOMIZE));
    personality(p);
    CHECK(setfsuid(-1) == (int)e);
    if (geteuid() != 0) {
        FAILS(setuid(0), EPERM);
        FAILS(setgroups(0, NULL), EPERM);
        printf("not root\n");
        return 0;
    }
    pid_t c = OK(fork());
    if (c == 0) {
        OK(seteuid(65534));
        CHECK(geteuid() == 65534 && getuid() == 0);
        OK(seteuid(0));
        OK(setgroups(0, NULL));
        OK(setresgid(65534, 65534, 65534));
        OK(setuid(65534));
        CHECK(getuid() == 65534 && geteuid() == 65534);
        FAILS(setuid(0), EPERM);
        FAILS(open("/etc/shadow", O_RDONLY), EACCES);
        h.version = _LINUX_CAPABILITY_VERSION_3;
        OK(syscall(SYS_capget, &h, d));
        CHECK(d[0].effective == 0);
        _exit(0);
    }
    wait_exit(c, 0);
    CHECK(getuid() == 0);
    return 0;
}
