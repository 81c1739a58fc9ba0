// Thread cancellation, deferred and asynchronous, clean-up handlers, cancellation of a blocked read and of a condition wait; setuid broadcast.
// cflags: -pthread
#include "../programs/check.h"

static int cleaned, p[2];
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static volatile int ready;

static void clean(void *arg) { cleaned += (int)(long)arg; }
static void unlock(void *arg) { pthread_mutex_unlock(arg); cleaned += 100; }

static void *in_read(void *arg) {
    char b;
    pthread_cleanup_push(clean, arg);
    ready = 1;
    read(p[0], &b, 1);
    pthread_cleanup_pop(0);
    return NULL;
}
static void *in_wait(void *arg) {
    (void)arg;
    OK0(pthread_mutex_lock(&m));
    pthread_cleanup_push(unlock, &m);
    ready = 1;
    for (;;) pthread_cond_wait(&c, &m);
    pthread_cleanup_pop(0);
    return NULL;
}
static void *spinning(void *arg) {
    (void)arg;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    ready = 1;
    for (volatile long i = 0;; i++) {}
    return NULL;
}
static void *disabled(void *arg) {
    (void)arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    ready = 1;
    usleep(300000);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    return (void *)1;
}

static void run(void *(*fn)(void *), void *arg) {
    pthread_t t;
    void *r;
    ready = 0;
    OK0(pthread_create(&t, NULL, fn, arg));
    while (!ready) usleep(200);
    usleep(1000);
    OK0(pthread_cancel(t));
    OK0(pthread_join(t, &r));
    CHECK(r == PTHREAD_CANCELED);
}

int main(void) {
    OK(pipe(p));
    run(in_read, (void *)5);
    CHECK(cleaned == 5);
    run(in_wait, NULL);
    CHECK(cleaned == 105);
    CHECK(pthread_mutex_trylock(&m) == 0);
    run(spinning, NULL);
    run(disabled, NULL);
    pthread_t t;
    OK0(pthread_create(&t, NULL, in_read, (void *)7));
    OK(setgid(getgid())); // tells every thread by a signal of glibc's own
    OK(setuid(getuid()));
    write_all(p[1], "x", 1);
    OK0(pthread_join(t, NULL));
    printf("cleaned %d\n", cleaned);
    return 0;
}
