// Children end in any order, with stops, kills and threads that wait at the same time.
// cflags: -pthread
#include "../programs/check.h"

static uint32_t order[2];
static int got[2];

static void *reap(void *arg) {
    long me = (long)arg;
    int status;
    pid_t p;
    while ((p = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
        got[me]++;
        order[me] = order[me] * 31 + (WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status));
    }
    return NULL;
}

int main(void) {
    pid_t pids[30];
    for (int i = 0; i < 30; i++)
        if ((pids[i] = OK(fork())) == 0) {
            for (volatile int k = 0; k < i % 4 * 20000; k++) {}
            if (i % 3 == 0) usleep(i * 10);
            if (i % 5 == 0) for (;;) pause();
            _exit(i);
        }
    pthread_t t;
    OK0(pthread_create(&t, NULL, reap, (void *)1));
    for (int i = 0; i < 30; i += 5) {
        kill(pids[i], i % 2 ? SIGTERM : SIGKILL);
        sched_yield();
    }
    reap((void *)0);
    OK0(pthread_join(t, NULL));
    CHECK(got[0] + got[1] == 30);
    printf("%d %08x, %d %08x\n", got[0], order[0], got[1], order[1]);
    return 0;
}
