// Processes and threads send each other signals while they compute; the places of arrival and the number of handlers run are the output.
// cflags: -pthread
#include "../programs/check.h"

static volatile uint64_t x;
static volatile uint32_t places;
static volatile int hits, done;

static void on(int s, siginfo_t *si, void *uc) {
    (void)uc;
    (void)si;
    hits++;
    places = places * 31 + (uint32_t)x + s;
}

static void *kicker(void *arg) {
    pthread_t to = *(pthread_t *)arg;
    for (int i = 0; i < 60; i++) {
        OK0(pthread_kill(to, SIGUSR2));
        for (volatile int k = 0; k < 3000; k++) {}
    }
    done = 1;
    return NULL;
}

int main(void) {
    handle(SIGUSR1, on, SA_RESTART);
    handle(SIGUSR2, on, SA_RESTART);
    handle(SIGRTMIN, on, SA_RESTART);
    pid_t me = getpid(), c = OK(fork());
    if (c == 0) {
        for (int i = 0; i < 60; i++) {
            sigqueue(me, i % 2 ? SIGRTMIN : SIGUSR1, (union sigval){.sival_int = i});
            if (i % 4 == 0) usleep(50);
        }
        _exit(0);
    }
    pthread_t self = pthread_self(), t;
    OK0(pthread_create(&t, NULL, kicker, &self));
    int status;
    while (!done || waitpid(c, &status, WNOHANG) == 0)
        for (int i = 0; i < 500; i++) x = x * 31 + i;
    OK0(pthread_join(t, NULL));
    printf("%d handled, places %08x, x %llx\n", hits, places, (unsigned long long)x);
    return 0;
}
