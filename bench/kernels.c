// The small loops of bench/run: kernels NAME COUNT.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static volatile int done;
static void *computes_on(void *arg) {
    uint64_t *sum = arg;
    while (!done) for (int i = 0; i < 1000; i++) *sum = *sum * 6364136223846793005 + 1442695040888963407;
    return NULL;
}

static void *returns(void *arg) { return arg; }
static void handles(int signal) { (void)signal; }

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
    } else if (strcmp(name, "spawn") == 0) {
        char *args[] = {"/bin/true", NULL};
        for (long i = 0; i < count; i++) {
            pid_t c;
            int status;
            if (posix_spawn(&c, args[0], NULL, NULL, args, NULL) || waitpid(c, &status, 0) != c) return 1;
        }
    } else if (strcmp(name, "fork") == 0) {
        for (long i = 0; i < count; i++) {
            int status;
            pid_t c = fork();
            if (c == 0) _exit(0);
            if (waitpid(c, &status, 0) != c) return 1;
        }
    } else if (strcmp(name, "pthread") == 0) {
        for (long i = 0; i < count; i++) {
            if (pthread_create(&t, NULL, returns, NULL)) return 1;
            pthread_join(t, NULL);
        }
    } else if (strcmp(name, "mmap") == 0) {
        for (long i = 0; i < count; i++) {
            void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (at == MAP_FAILED || munmap(at, 4096)) return 1;
        }
    } else if (strcmp(name, "signal") == 0) {
        signal(SIGUSR1, handles);
        for (long i = 0; i < count; i++) kill(getpid(), SIGUSR1);
    } else if (strcmp(name, "mask") == 0) {
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        for (long i = 0; i < count; i++) sigprocmask(i & 1 ? SIG_UNBLOCK : SIG_BLOCK, &set, &old);
    } else if (strcmp(name, "rdtsc") == 0) {
        for (long i = 0; i < count; i++) sum[0] += __builtin_ia32_rdtsc() & 1;
    } else if (strcmp(name, "turns") == 0) {
        pthread_create(&t, NULL, takes_turns, (void *)1);
        takes_turns((void *)0);
        pthread_join(t, NULL);
    } else if (strcmp(name, "beside") == 0) {
        int p[2];
        char c = 1;
        if (pipe(p) || pthread_create(&t, NULL, computes_on, &sum[0])) return 1;
        for (long i = 0; i < count; i++) if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1) return 1;
        done = 1;
        pthread_join(t, NULL);
        sum[0] = 0;
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
