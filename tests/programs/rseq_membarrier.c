// rseq as glibc registered it (or not), membarrier, set_tid_address, get_robust_list, sched_setattr, mseal: small calls of runtimes.
#include "check.h"
#include <linux/membarrier.h>
#include <sys/auxv.h>

int main(void) {
    long cmds = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    CHECK(cmds >= 0 || errno == ENOSYS);
    if (cmds > 0 && (cmds & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)) {
        OK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
        OK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    }
    int word = 0;
    CHECK(syscall(SYS_set_tid_address, &word) == gettid());
    void *head;
    size_t len;
    OK(syscall(SYS_get_robust_list, 0, &head, &len));
    CHECK(head && len == 24);
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t a, b, c; } attr = {0};
    OK(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0));
    CHECK(attr.policy == 0);
    OK(syscall(SYS_sched_setattr, 0, &attr, 0));
    char area[64] __attribute__((aligned(32))) = {0};
    long r = syscall(334 /* rseq */, area, 32, 0, 0x53053053);
    CHECK(r == 0 || errno == ENOSYS || errno == EINVAL || errno == EBUSY);
    printf("membarrier %lx robust list %p, HWCAP2 %lx\n", cmds, head, getauxval(AT_HWCAP2));
    return 0;
}
