// exit_group by one of many threads, while the others come back from sleeps all the time; the parent shares memory with them.
// cflags: -pthread
// timeout: 40
#include "check.h"

enum { THREADS = 16, ROUNDS = 30 };
static volatile unsigned *shared;

static void *work(void *arg) {
    struct timespec t = {0, 10000};
    long n = (long)arg;
    for (unsigned i = 0;; i++) {
        nanosleep(&t, NULL);
        __atomic_add_fetch(&shared[1], 1, __ATOMIC_RELAXED);
        if (i == 30 && n == shared[0]) _exit(n);
    }
    return NULL;
}

int main(void) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (int round = 0; round < ROUNDS; round++) {
        shared[0] = round % THREADS;
        pid_t child = OK(fork());
        if (child == 0) {
            for (long i = 1; i < THREADS; i++) {
                pthread_t t;
                OK0(pthread_create(&t, NULL, work, (void *)i));
            }
            work(NULL);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == round % THREADS);
    }
    printf("%u sleeps\n", shared[1]);
    return 0;
}
