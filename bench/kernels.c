// The small loops of bench/run: kernels NAME COUNT.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long count;
static uint32_t turn;

static uint64_t compute(long n) {
    uint64_t x = 1;
    for (long i = 0; i < n; i++) x = x * 6364136223846793005ull + (x >> 33) + i;
    return x;
}

static void *computes(void *arg) {
    *(uint64_t *)arg = compute(count);
    return NULL;
}

static void *takes_turns(void *arg) {
    uint32_t me = (uintptr_t)arg;
    for (long i = 0; i < count; i++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != me) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
        __atomic_store_n(&turn, !me, __ATOMIC_RELEASE);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const char *name = argv[1];
    count = atol(argv[2]);
    uint64_t sum[2] = {0, 0};
    pthread_t t;
    if (strcmp(name, "read1") == 0) {
        int fd = open("/dev/zero", O_RDONLY);
        char c;
        for (long i = 0; i < count; i++) if (read(fd, &c, 1) != 1) return 1;
    } else if (strcmp(name, "getppid") == 0) {
        for (long i = 0; i < count; i++) sum[0] += getppid() > 0;
    } else if (strcmp(name, "clock") == 0) {
        struct timespec ts;
        for (long i = 0; i < count; i++) {
            clock_gettime(CLOCK_MONOTONIC, &ts);
            sum[0] += ts.tv_nsec;
        }
    } else if (strcmp(name, "turns") == 0) {
        pthread_create(&t, NULL, takes_turns, (void *)1);
        takes_turns((void *)0);
        pthread_join(t, NULL);
    } else if (strcmp(name, "threads") == 0) {
        pthread_create(&t, NULL, computes, &sum[0]);
        computes(&sum[1]);
        pthread_join(t, NULL);
    } else if (strcmp(name, "processes") == 0) {
        pid_t c = fork();
        computes(&sum[0]);
        if (c == 0) _exit(sum[0] & 1);
        int status;
        waitpid(c, &status, 0);
        if (!WIFEXITED(status)) return 1;
    } else return 2;
    printf("%llx\n", (unsigned long long)(sum[0] + sum[1]));
    return 0;
}
