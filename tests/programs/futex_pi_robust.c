// Priority-inheritance mutexes, robust mutexes whose owner dies as a thread and as a process, private and shared.
// cflags: -pthread
#include "check.h"

static pthread_mutex_t pi, robust;
static long counter;

static void *pi_work(void *arg) {
    (void)arg;
    for (int i = 0; i < 300; i++) {
        OK0(pthread_mutex_lock(&pi));
        long c = counter;
        if (i % 50 == 0) sched_yield();
        counter = c + 1;
        OK0(pthread_mutex_unlock(&pi));
    }
    return NULL;
}

static void *die_with_lock(void *arg) {
    OK0(pthread_mutex_lock(arg));
    return NULL;
}

static void *wait_for_lock(void *arg) {
    int r = pthread_mutex_lock(arg);
    CHECK(r == EOWNERDEAD);
    OK0(pthread_mutex_consistent(arg));
    OK0(pthread_mutex_unlock(arg));
    return NULL;
}

int main(void) {
    pthread_mutexattr_t a;
    OK0(pthread_mutexattr_init(&a));
    OK0(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
    OK0(pthread_mutex_init(&pi, &a));
    pthread_t t[4];
    for (int i = 0; i < 4; i++) OK0(pthread_create(&t[i], NULL, pi_work, NULL));
    for (int i = 0; i < 4; i++) OK0(pthread_join(t[i], NULL));
    CHECK(counter == 1200);
    OK0(pthread_mutex_lock(&pi));
    CHECK(pthread_mutex_trylock(&pi) == EBUSY);
    OK0(pthread_mutex_unlock(&pi));

    OK0(pthread_mutexattr_init(&a));
    OK0(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
    OK0(pthread_mutex_init(&robust, &a));
    OK0(pthread_create(&t[0], NULL, die_with_lock, &robust));
    OK0(pthread_join(t[0], NULL));
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    OK0(pthread_mutex_consistent(&robust));
    OK0(pthread_mutex_unlock(&robust));
    OK0(pthread_mutex_lock(&robust));
    OK0(pthread_mutex_unlock(&robust));
    // Given up without being made consistent: not recoverable.
    OK0(pthread_create(&t[0], NULL, die_with_lock, &robust));
    OK0(pthread_join(t[0], NULL));
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    OK0(pthread_mutex_unlock(&robust));
    CHECK(pthread_mutex_lock(&robust) == ENOTRECOVERABLE);

    OK0(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (int with_pi = 0; with_pi < 2; with_pi++) {
        if (with_pi) OK0(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
        OK0(pthread_mutex_init(shared, &a));
        int p[2];
        char c;
        OK(pipe(p));
        pid_t child = OK(fork());
        if (child == 0) {
            OK0(pthread_mutex_lock(shared));
            write_all(p[1], "l", 1);
            sleep_us(20000);
            kill(getpid(), SIGKILL);
        }
        CHECK(read(p[0], &c, 1) == 1);
        OK0(pthread_create(&t[0], NULL, wait_for_lock, shared)); // blocks until the owner is dead
        OK0(pthread_join(t[0], NULL));
        OK0(pthread_mutex_lock(shared));
        wait_signal(child, SIGKILL);
        printf("owner %d died\n", child);
    }
    return 0;
}
