// Calls whose arguments lie in memory that is mapped without any right fail with EFAULT, and change nothing.
#include "check.h"

static void *waits(void *arg) {
    pause();
    return arg;
}

static void check(char *none) {
    sigset_t before, after;
    OK(sigprocmask(SIG_BLOCK, NULL, &before));
    FAILS(syscall(SYS_rt_sigaction, SIGUSR1, none, NULL, 8), EFAULT);
    FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, none, NULL, 8), EFAULT);
    FAILS(syscall(SYS_sigaltstack, none, NULL), EFAULT);
    FAILS(syscall(SYS_clone3, none, 88), EFAULT);
    FAILS(syscall(SYS_rt_sigtimedwait, none, NULL, NULL, 8), EFAULT);
    FAILS(syscall(SYS_rt_sigsuspend, none, 8), EFAULT);
    FAILS(syscall(SYS_io_setup, 4, none), EFAULT);
    FAILS(syscall(SYS_futex, none, 0, 0, NULL, NULL, 0), EFAULT);
    FAILS(syscall(SYS_futex, none, 6, 0, NULL, NULL, 0), EFAULT);
    FAILS(syscall(SYS_nanosleep, none, NULL), EFAULT);
    FAILS(syscall(SYS_execve, none, NULL, NULL), EFAULT);
    FAILS(syscall(SYS_execve, "/bin/true", none, NULL), EFAULT);
    FAILS(syscall(SYS_poll, none, 1, 0), EFAULT);
    FAILS(syscall(SYS_open, none, O_RDONLY), EFAULT);
    FAILS(syscall(SYS_setitimer, ITIMER_REAL, none, NULL), EFAULT);
    int ends[2];
    OK(pipe(ends));
    FAILS(write(ends[1], none, 4), EFAULT);
    OK(write(ends[1], "abcd", 4));
    FAILS(read(ends[0], none, 4), EFAULT);
    char text[4];
    CHECK(read(ends[0], text, 4) == 4 && !memcmp(text, "abcd", 4));
    OK(sigprocmask(SIG_BLOCK, NULL, &after));
    CHECK(!memcmp(&before, &after, 8));
    OK(close(ends[0]));
    OK(close(ends[1]));
}

int main(void) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *none = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, flags, -1, 0));
    memset(none, 1, 8192);
    OK(mprotect(none, 8192, PROT_NONE));
    for (int i = 0; i < 3; i++) check(none);
    pthread_t other;
    OK0(pthread_create(&other, NULL, waits, NULL));
    for (int i = 0; i < 3; i++) check(none);
    // Only to be read: results have no place there.
    OK(mprotect(none, 8192, PROT_READ));
    char *zero = OK(mmap(NULL, 4096, PROT_READ, flags, -1, 0));
    FAILS(syscall(SYS_io_setup, 4, zero), EFAULT);
    FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, zero, 8), EFAULT);
    noise("end");
}
