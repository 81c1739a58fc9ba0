// A process is killed while it makes threads and processes, at any point of that.
// cflags: -pthread
#include "../programs/check.h"

static void *thread(void *arg) { return arg; }
static void *forks(void *arg) {
    for (;;) {
        pid_t c = fork();
        if (c == 0) _exit(0);
        if (c > 0) waitpid(c, NULL, 0);
    }
    return arg;
}

int main(void) {
    unsigned seed = (unsigned)getpid();
    for (int round = 0; round < 40; round++) {
        pid_t c = OK(fork());
        if (c == 0) {
            pthread_t t;
            if (round % 3 == 0) OK0(pthread_create(&t, NULL, forks, NULL));
            if (round % 3 == 1) forks(NULL);
            for (;;) {
                OK0(pthread_create(&t, NULL, thread, NULL));
                if (round % 2) OK0(pthread_join(t, NULL));
                else pthread_detach(t);
            }
        }
        seed = seed * 1103515245 + 12345;
        sleep_us(500 + (seed >> 16) % 4000);
        OK(kill(c, SIGKILL));
        wait_signal(c, SIGKILL);
    }
    return 0;
}
