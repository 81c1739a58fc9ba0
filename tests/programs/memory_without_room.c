// Results that have no room: memory that is not there, or only to be read. Each call gives EFAULT, leaves the memory alone and the message where it is; with one thread, and with another that waits.
// cflags: -pthread
#include "check.h"
#include <sys/epoll.h>
#include <sys/prctl.h>

static void *waits(void *x) {
    for (;;) pause();
    return x;
}

static void calls(void) {
    int p[2];
    OK(pipe(p));
    char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(ro != MAP_FAILED);
    char *room = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED);
    OK(munmap(room, 4096));
    OK(munmap(room + 8192, 4096));
    char *end = room + 8192 - 10, text[200];
    memset(text, 'x', sizeof text);
    write_all(p[1], text, 100);
    for (volatile char *at = (char *)8;; at = ro) {
        char *bad = (char *)at;
        FAILS(read(p[0], bad, 5), EFAULT);
        struct iovec v[2] = {{bad, 5}, {bad, 5}};
        FAILS(readv(p[0], v, 2), EFAULT);
        pid_t c = OK(fork());
        if (c == 0) _exit(3);
        FAILS(wait4(c, (int *)bad, 0, NULL), EFAULT);
        while (wait4(-1, NULL, WNOHANG, NULL) > 0) {}
        FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, bad, 8), EFAULT);
        FAILS(syscall(SYS_rt_sigaction, SIGUSR1, NULL, bad, 8), EFAULT);
        FAILS(syscall(SYS_sigaltstack, NULL, bad), EFAULT);
        FAILS(syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, bad), EFAULT);
        FAILS(prctl(PR_GET_TSC, bad), EFAULT);
        FAILS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad), EFAULT);
        FAILS(syscall(SYS_getrandom, bad, 8, 0), EFAULT);
        FAILS(syscall(SYS_pipe, bad), EFAULT);
        // The mask changes all the same.
        uint64_t usr2 = 1 << (SIGUSR2 - 1), mask = 0;
        FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &usr2, bad, 8), EFAULT);
        OK(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &usr2, &mask, 8));
        CHECK(mask == usr2);
        if (bad == ro) break;
    }
    for (int i = 0; i < 4096; i++) CHECK(ro[i] == 0);
    // More asked for than there is room for, but not more to read.
    CHECK(read(p[0], text, 95) == 95);
    CHECK(read(p[0], end, 100) == 5 && memcmp(end, "xxxxx", 5) == 0);
    // What is too much: a part of it may be there.
    memset(text, 'y', sizeof text);
    write_all(p[1], text, 100);
    FAILS(read(p[0], end, 100), EFAULT);
    printf("%.10s\n", end);
    CHECK(read(p[0], text, 200) > 0);
    noise("calls");
}

int main(void) {
    calls();
    pthread_t t;
    OK0(pthread_create(&t, NULL, waits, NULL));
    sleep_us(2000);
    calls();
    return 0;
}
