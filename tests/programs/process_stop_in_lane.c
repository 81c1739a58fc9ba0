// cflags: -pthread
// A process that computes, with threads that wait or compute, in memory that it shares with another is stopped, and stays so: the other one goes on meanwhile.
#include "check.h"

struct shared { volatile unsigned long count; volatile int done; };

static struct shared *s;

static void *waits(void *arg) {
    sleep(1000);
    return arg;
}

static void *computes(void *arg) {
    while (!s->done) s->count++;
    return arg;
}

int main(void) {
    int status;
    s = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_t c = OK(fork());
    if (c == 0) {
        pthread_t t[4];
        for (int i = 0; i < 4; i++) OK0(pthread_create(&t[i], NULL, i & 1 ? waits : computes, NULL));
        while (!s->done) s->count++;
        _exit(3);
    }
    while (s->count == 0) sleep_us(1000);
    for (int round = 0; round < 8; round++) {
        OK(kill(c, SIGSTOP));
        CHECK(OK(waitpid(c, &status, WUNTRACED)) == c && WIFSTOPPED(status));
        unsigned long before = s->count;
        sleep_us(30000);
        CHECK(s->count == before);
        printf("stopped at %lu\n", before);
        OK(kill(c, SIGCONT));
        CHECK(OK(waitpid(c, &status, WCONTINUED)) == c && WIFCONTINUED(status));
        while (s->count == before) sleep_us(1000);
    }
    s->done = 1;
    wait_exit(c, 3);
    return 0;
}
