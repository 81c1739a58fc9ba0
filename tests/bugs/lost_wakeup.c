// The flag is looked at before the lock is taken: the signal may come in between, and nobody wakes the waiter.
// cflags: -O1 -pthread
#include "bugs.h"
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static volatile int ready;
static int bad;
static void *waiter(void *arg) {
    (void)arg;
    if (!ready) {
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 1;
        pthread_mutex_lock(&m);
        if (pthread_cond_timedwait(&c, &m, &end) == ETIMEDOUT) bad = 1;
        pthread_mutex_unlock(&m);
    }
    return NULL;
}
static void *waker(void *arg) {
    (void)arg;
    usleep(300);
    pthread_mutex_lock(&m);
    ready = 1;
    pthread_cond_signal(&c);
    pthread_mutex_unlock(&m);
    return NULL;
}
int main(void) { two(waiter, NULL, waker, NULL); return bad; }
