// Threads: ids, arguments and results, thread-local storage, names, detached threads, exit of one while others go on.
// cflags: -pthread
#include "check.h"

static __thread long local = 5;
static pthread_key_t key;
static int destroyed, detached_done;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;

static void destroy(void *p) { __atomic_add_fetch(&destroyed, (int)(long)p, __ATOMIC_SEQ_CST); }

static void *work(void *arg) {
    long n = (long)arg;
    CHECK(local == 5);
    local = n * 10;
    OK0(pthread_setspecific(key, (void *)(n + 1)));
    CHECK(gettid() != getpid());
    char name[16];
    snprintf(name, sizeof name, "w%ld", n);
    OK0(pthread_setname_np(pthread_self(), name));
    char back[16];
    OK0(pthread_getname_np(pthread_self(), back, sizeof back));
    CHECK(strcmp(name, back) == 0);
    printf("thread %ld tid %d tls %p\n", n, gettid(), (void *)&local);
    if (n % 2) pthread_exit((void *)(local + 1));
    return (void *)(local + 1);
}

static void *detached(void *arg) {
    (void)arg;
    OK0(pthread_mutex_lock(&m));
    detached_done++;
    OK0(pthread_cond_signal(&c));
    OK0(pthread_mutex_unlock(&m));
    return NULL;
}

int main(void) {
    OK0(pthread_key_create(&key, destroy));
    pthread_t t[8];
    for (long i = 0; i < 8; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    for (long i = 0; i < 8; i++) {
        void *r;
        OK0(pthread_join(t[i], &r));
        CHECK((long)r == i * 10 + 1);
    }
    CHECK(local == 5 && destroyed == 36);
    pthread_attr_t a;
    OK0(pthread_attr_init(&a));
    OK0(pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED));
    OK0(pthread_attr_setstacksize(&a, 128 * 1024));
    for (int i = 0; i < 5; i++) OK0(pthread_create(&t[i], &a, detached, NULL));
    OK0(pthread_mutex_lock(&m));
    while (detached_done < 5) OK0(pthread_cond_wait(&c, &m));
    OK0(pthread_mutex_unlock(&m));
    return 0;
}
