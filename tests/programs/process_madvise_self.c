// process_madvise on the caller itself: advice that changes no content is taken, what drops pages is refused (as before Linux 6.13) or has its effect.
#include "check.h"
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

int main(void) {
    char *memory = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memset(memory, 7, 8192);
    int self = OK(syscall(SYS_pidfd_open, getpid(), 0));
    struct iovec part = {memory, 4096};
    if (syscall(SYS_process_madvise, self, &part, 1l, 20 /* MADV_COLD */, 0) == -1) SKIP("not here");
    CHECK(memory[0] == 7);
    const int drops[] = {MADV_DONTNEED, 24 /* MADV_DONTNEED_LOCKED */};
    for (int i = 0; i < 2; i++) {
        memset(memory, 7, 8192);
        long done = syscall(SYS_process_madvise, self, &part, 1l, drops[i], 0);
        CHECK(done == 4096 || (done == -1 && errno == EINVAL));
        CHECK(memory[0] == (done == 4096 ? 0 : 7) && memory[4096] == 7);
    }
    FAILS(syscall(SYS_process_madvise, self, &part, 1l, 12345, 0), EINVAL);
    noise("end");
}
