// Robust mutexes in shared memory whose owner, of one thread or several, is killed, crashes or leaves without unlocking them; others wait or come later.
// cflags: -pthread
#include "check.h"

struct shared {
    pthread_mutex_t m[3];
    int ready, died[3];
    long count;
};
static struct shared *s;

static void *sleeper(void *a) { for (;;) pause(); return a; }
static void *owner_thread(void *a) {
    OK0(pthread_mutex_lock(&s->m[1]));
    __atomic_add_fetch(&s->ready, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
    return a;
}

static void init(int i, int protocol) {
    pthread_mutexattr_t a;
    OK0(pthread_mutexattr_init(&a));
    OK0(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
    OK0(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
    OK0(pthread_mutexattr_setprotocol(&a, protocol));
    OK0(pthread_mutex_init(&s->m[i], &a));
}

static void get(int i) {
    int r = pthread_mutex_lock(&s->m[i]);
    if (r == EOWNERDEAD) {
        s->died[i]++;
        OK0(pthread_mutex_consistent(&s->m[i]));
    } else CHECK(r == 0);
    __atomic_add_fetch(&s->count, 1, __ATOMIC_SEQ_CST);
    OK0(pthread_mutex_unlock(&s->m[i]));
}

int main(void) {
    s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    for (int how = 0; how < 12; how++) {
        int pi = how & 1 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE;
        memset(s, 0, sizeof *s);
        for (int i = 0; i < 3; i++) init(i, i == 2 ? PTHREAD_PRIO_NONE : pi);
        pid_t owner = OK(fork());
        if (owner == 0) {
            pthread_t t;
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            OK0(pthread_create(&t, NULL, sleeper, NULL));
            OK0(pthread_create(&t, NULL, owner_thread, NULL));
            OK0(pthread_mutex_lock(&s->m[0]));
            OK0(pthread_mutex_lock(&s->m[2]));
            __atomic_add_fetch(&s->ready, 1, __ATOMIC_SEQ_CST);
            __atomic_add_fetch(&s->count, 100, __ATOMIC_SEQ_CST);
            if (how / 2 == 0 || how / 2 == 1) for (;;) pause();
            while (__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST) < 2) sleep_us(300);
            sleep_us(3000);
            if (how / 2 == 2) *(volatile int *)0x10 = 1;
            if (how / 2 == 3) _exit(7);
            if (how / 2 == 4) abort();
            kill(getpid(), SIGKILL);
        }
        pid_t waiters[2];
        for (int k = 0; k < 2; k++)
            if ((waiters[k] = OK(fork())) == 0) {
                while (__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST) < 2) sleep_us(300);
                for (int i = 0; i < 3; i++) get((i + k) % 3);
                _exit(0);
            }
        while (__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST) < 2) sleep_us(300);
        if (how / 2 == 0) sleep_us(4000);
        if (how / 2 < 2) OK(kill(owner, how & 2 ? SIGTERM : SIGKILL));
        int want[] = {SIGKILL, SIGTERM, SIGSEGV, 0, SIGABRT, SIGKILL};
        if (how / 2 == 3) wait_exit(owner, 7);
        else wait_signal(owner, want[how / 2]);
        for (int k = 0; k < 2; k++) wait_exit(waiters[k], 0);
        for (int i = 0; i < 3; i++) get(i);
        printf("%d: owner %d died %d %d %d count %ld\n", how, owner, s->died[0], s->died[1], s->died[2], s->count);
        for (int i = 0; i < 3; i++) CHECK(s->died[i] == 1);
        CHECK(s->count == 109);
    }
    return 0;
}
