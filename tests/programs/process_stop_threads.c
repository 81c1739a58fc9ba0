// SIGSTOP and SIGCONT to processes with threads that sleep, compute, and have just begun, and to one that computes in memory which its parent shares.
// cflags: -pthread
#include "check.h"

static volatile int *shared; // go, ready
static volatile int handled;

static void on_cont(int s) { handled += s == SIGCONT; }

static void *sleeps(void *x) {
    while (!handled) sleep_us(700);
    return x;
}

static void *computes(void *x) {
    while (!handled) {}
    return x;
}

static void stopped(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(waitpid(pid, &status, WUNTRACED | WNOHANG) == 0);
    if (shared) shared[0] = 1;
    OK(kill(pid, SIGCONT));
    wait_exit(pid, 7);
    printf("process %d went on\n", pid);
}

int main(void) {
    signal(SIGCONT, on_cont);
    for (int how = 0; how < 3; how++) {
        int ready[2];
        char b;
        OK(pipe(ready));
        pid_t c = OK(fork());
        if (c == 0) {
            pthread_t t[4];
            for (int i = 0; i < 4; i++) OK0(pthread_create(&t[i], NULL, how == 1 ? computes : sleeps, NULL));
            if (how == 0) raise(SIGSTOP); // the threads may not have begun
            write_all(ready[1], "r", 1);
            for (int i = 0; i < 4; i++) OK0(pthread_join(t[i], NULL));
            CHECK(handled == 1);
            _exit(7);
        }
        if (how) {
            CHECK(read(ready[0], &b, 1) == 1);
            OK(kill(c, SIGSTOP));
        }
        stopped(c);
        OK(close(ready[0]));
        OK(close(ready[1]));
    }
    // Without threads, but with shared memory.
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (int how = 0; how < 2; how++) {
        shared[0] = shared[1] = 0;
        pid_t c = OK(fork());
        if (c == 0) {
            shared[1] = 1;
            while (!shared[0]) {
                if (how) sleep_us(700);
            }
            _exit(7);
        }
        while (!shared[1]) sleep_us(300);
        OK(kill(c, SIGSTOP));
        stopped(c);
    }
    return 0;
}
