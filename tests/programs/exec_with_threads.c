// execve while other threads compute, block and sleep: they vanish; from a thread that is not the leader the pid stays.
// cflags: -pthread
#include "../programs/check.h"

static void *compute(void *arg) {
    volatile long *n = arg;
    for (;;) ++*n;
    return NULL;
}

static void *block(void *arg) {
    char c;
    CHECK(read(*(int *)arg, &c, 1) == -2);
    return NULL;
}

static char **again, exe[PATH_MAX];

static void *exec_now(void *arg) {
    (void)arg;
    sleep_us(5000);
    printf("exec from %s thread\n", gettid() == getpid() ? "leader" : "other");
    OK(execv(exe, again));
    return NULL;
}

int main(int argc, char **argv) {
    int round = argc > 1 ? atoi(argv[1]) : 0;
    if (argc > 2) {
        CHECK(atoi(argv[2]) == getpid() && gettid() == getpid());
        FILE *f = fopen("/proc/self/status", "r");
        char line[256];
        int threads = 0;
        while (fgets(line, sizeof line, f)) sscanf(line, "Threads: %d", &threads);
        fclose(f);
        CHECK(threads == 1);
    }
    if (round == 3) return 0;
    char next[16], pid[16];
    snprintf(next, sizeof next, "%d", round + 1);
    snprintf(pid, sizeof pid, "%d", getpid());
    char *av[] = {argv[0], next, pid, NULL};
    again = av;
    OK(readlink("/proc/self/exe", exe, sizeof exe - 1));
    static volatile long n;
    static int p[2];
    OK(pipe2(p, O_CLOEXEC));
    pthread_t t[4];
    OK0(pthread_create(&t[0], NULL, compute, (void *)&n));
    OK0(pthread_create(&t[1], NULL, block, &p[0]));
    if (round == 0) exec_now(NULL);
    OK0(pthread_create(&t[2], NULL, exec_now, NULL));
    if (round == 1) pthread_exit(NULL);
    for (;;) pause();
}
