// Calls that a recorder may refuse: io_uring, userfaultfd, perf_event_open, bpf, keyctl, and ones no kernel has. Either they work or they fail cleanly.
// skip-native-compare
#include "check.h"
#include <linux/perf_event.h>
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif

static void allow(const char *name, long r) {
    int e = errno;
    CHECK(r >= 0 || e == ENOSYS || e == EPERM || e == EACCES || e == EINVAL || e == EOPNOTSUPP || e == ENOENT || e == ENODEV);
    printf("%s gives %s\n", name, r >= 0 ? "something" : strerrorname_np(e));
    if (r > 2) close(r);
}

int main(void) {
    char params[120] = {0};
    allow("io_uring_setup", syscall(SYS_io_uring_setup, 4, params));
    allow("userfaultfd", syscall(SYS_userfaultfd, 1));
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_CPU_CLOCK, .exclude_kernel = 1};
    allow("perf_event_open", syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
    FAILS(syscall(SYS_afs_syscall), ENOSYS);
    FAILS(syscall(5000), ENOSYS);
    FAILS(syscall(-1), ENOSYS);
    printf("still here %d\n", getpid());
    return 0;
}
