// Threads fork while others write memory and allocate: what each child sees of it is the output.
// cflags: -pthread
#include "../programs/check.h"

static volatile uint32_t words[4];
static volatile int stop;

static void *writer(void *arg) {
    long me = (long)arg;
    while (!stop) {
        for (int i = 0; i < 200; i++) words[me] = words[me] * 31 + 7;
        free(malloc(100 + me));
        sched_yield();
    }
    return NULL;
}

static void *forker(void *arg) {
    long me = (long)arg;
    for (int i = 0; i < 8; i++) {
        pid_t c = OK(fork());
        if (c == 0) {
            char b[64];
            int n = snprintf(b, sizeof b, "%ld.%d %08x %08x\n", me, i, words[0], words[1]);
            write(1, b, n);
            _exit(words[0] % 100);
        }
        int status;
        CHECK(waitpid(c, &status, 0) == c && WIFEXITED(status));
        words[2 + me] = words[2 + me] * 31 + WEXITSTATUS(status);
    }
    return NULL;
}

int main(void) {
    pthread_t w[2], f[2];
    for (long i = 0; i < 2; i++) OK0(pthread_create(&w[i], NULL, writer, (void *)i));
    for (long i = 0; i < 2; i++) OK0(pthread_create(&f[i], NULL, forker, (void *)i));
    for (int i = 0; i < 2; i++) OK0(pthread_join(f[i], NULL));
    stop = 1;
    for (int i = 0; i < 2; i++) OK0(pthread_join(w[i], NULL));
    printf("statuses %08x %08x\n", words[2], words[3]);
    return 0;
}
