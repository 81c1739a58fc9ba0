// PTRACE_ATTACH and PTRACE_SEIZE to one thread after another of a process whose threads all wait in calls; the tracer's end lets all go on.
// cflags: -pthread
#include "ptrace.h"

static int tids[2], again[2];

static void *waits(void *x) {
    char c;
    pid_t tid = gettid();
    write_all(tids[1], &tid, sizeof tid);
    CHECK(read(again[0], &c, 1) == 1);
    return x;
}

static int traced(void) {
    pthread_t t[6];
    for (int i = 0; i < 6; i++) OK0(pthread_create(&t[i], NULL, waits, NULL));
    for (int i = 0; i < 6; i++) OK0(pthread_join(t[i], NULL));
    return 9;
}

int main(void) {
    OK(pipe(tids));
    OK(pipe(again));
    for (int seize = 0; seize < 2; seize++) {
        pid_t all[6];
        int status;
        pid_t child = OK(fork());
        if (child == 0) _exit(traced());
        CHECK(read_all(tids[0], all, sizeof all) == sizeof all);
        pid_t tracer = OK(fork());
        if (tracer == 0) {
            for (int i = 0; i < 6; i++) {
                OK(ptrace(seize ? PTRACE_SEIZE : PTRACE_ATTACH, all[i], NULL, NULL));
                if (seize) OK(ptrace(PTRACE_INTERRUPT, all[i], NULL, NULL));
                CHECK(waitpid(all[i], &status, __WALL) == all[i] && WIFSTOPPED(status));
                CHECK(WSTOPSIG(status) == (seize ? SIGTRAP : SIGSTOP));
            }
            _exit(4);
        }
        wait_exit(tracer, 4);
        write_all(again[1], "123456", 6);
        wait_exit(child, 9);
        printf("child %d went on\n", child);
    }
    return 0;
}
