// Threads print, sleep and wait when another ends the process: what was printed until then is the output, however far they were.
// cflags: -O1 -pthread
#include "../programs/check.h"

static volatile int go;

static void *prints(void *arg) {
    long me = (long)arg;
    char line[64];
    for (int i = 0;; i++) {
        int n = snprintf(line, sizeof line, "%ld %d\n", me, i);
        CHECK(write(1, line, n) == n);
        go++;
    }
    return NULL;
}

static void *sleeps(void *arg) {
    struct timespec t = {0, 20000};
    for (;;) nanosleep(&t, NULL);
    return arg;
}

int main(void) {
    pthread_t t;
    for (long i = 0; i < 3; i++) OK0(pthread_create(&t, NULL, prints, (void *)i));
    for (long i = 0; i < 3; i++) OK0(pthread_create(&t, NULL, sleeps, NULL));
    while (go < 40) sched_yield();
    _exit(0);
}
