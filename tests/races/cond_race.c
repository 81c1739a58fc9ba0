// Condition variables with signal, broadcast and time-outs: who wakes is the output.
// cflags: -pthread
#include "../programs/check.h"

enum { N = 5 };
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int tokens, finished;
static uint32_t order;

static void *work(void *arg) {
    long me = (long)arg;
    int got = 0, timeouts = 0;
    OK0(pthread_mutex_lock(&m));
    for (;;) {
        while (tokens == 0 && !finished) {
            if (me % 2) {
                struct timespec t;
                clock_gettime(CLOCK_REALTIME, &t);
                t.tv_nsec += 300000;
                if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; }
                timeouts += pthread_cond_timedwait(&c, &m, &t) == ETIMEDOUT;
            } else OK0(pthread_cond_wait(&c, &m));
        }
        if (tokens == 0) break;
        tokens--;
        got++;
        order = order * 31 + me;
    }
    OK0(pthread_mutex_unlock(&m));
    printf("thread %ld: %d tokens, %d time-outs\n", me, got, timeouts);
    return NULL;
}

int main(void) {
    pthread_t t[N];
    for (long i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (int i = 0; i < 200; i++) {
        OK0(pthread_mutex_lock(&m));
        tokens += 1 + i % 3;
        if (i % 3) OK0(pthread_cond_signal(&c));
        else OK0(pthread_cond_broadcast(&c));
        OK0(pthread_mutex_unlock(&m));
        if (i % 8 == 0) sched_yield();
        if (i % 50 == 0) usleep(400);
    }
    OK0(pthread_mutex_lock(&m));
    finished = 1;
    OK0(pthread_cond_broadcast(&c));
    OK0(pthread_mutex_unlock(&m));
    for (int i = 0; i < N; i++) OK0(pthread_join(t[i], NULL));
    printf("order %08x\n", order);
    return 0;
}
