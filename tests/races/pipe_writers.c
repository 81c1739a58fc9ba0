// Many processes and threads write to one pipe; the reader prints the order and the sizes it got.
// cflags: -pthread
#include "../programs/check.h"

enum { WRITERS = 6, LINES = 60 };
static int p[2];

static void lines(int me) {
    char b[64];
    for (int i = 0; i < LINES; i++) {
        int n = snprintf(b, sizeof b, "%c%d ", 'a' + me, i);
        write_all(p[1], b, n);
        if (i % 9 == me) sched_yield();
    }
}
static void *thread(void *arg) {
    lines((int)(long)arg);
    return NULL;
}

int main(void) {
    OK(pipe(p));
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        if ((pids[i] = OK(fork())) == 0) {
            lines(i);
            _exit(0);
        }
    pthread_t t[3];
    for (long i = 0; i < 3; i++) OK0(pthread_create(&t[i], NULL, thread, (void *)(i + 3)));
    char b[300];
    ssize_t n;
    int reads = 0, spaces = 0;
    while (spaces < WRITERS * LINES && (n = OK(read(p[0], b, sizeof b))) > 0) {
        for (int i = 0; i < n; i++) spaces += b[i] == ' ';
        printf("%zd: %.*s\n", n, (int)n, b);
        reads++;
    }
    CHECK(spaces == WRITERS * LINES);
    for (int i = 0; i < 3; i++) wait_exit(pids[i], 0);
    for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
    printf("%d reads\n", reads);
    return 0;
}
