// A shared futex between processes, and a mutex and condition variable with PTHREAD_PROCESS_SHARED.
// cflags: -pthread
#include "check.h"
#include <linux/futex.h>

struct shared {
    uint32_t word;
    pthread_mutex_t m;
    pthread_cond_t c;
    int turn, order[60], n;
};

int main(void) {
    struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    pthread_mutexattr_t ma;
    pthread_condattr_t ca;
    OK0(pthread_mutexattr_init(&ma));
    OK0(pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED));
    OK0(pthread_mutex_init(&s->m, &ma));
    OK0(pthread_condattr_init(&ca));
    OK0(pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED));
    OK0(pthread_cond_init(&s->c, &ca));
    pid_t child = OK(fork());
    if (child == 0) {
        while (__atomic_load_n(&s->word, __ATOMIC_SEQ_CST) == 0)
            syscall(SYS_futex, &s->word, FUTEX_WAIT, 0, NULL, NULL, 0);
        uint32_t v = s->word;
        printf("child saw %08x\n", v);
        __atomic_store_n(&s->word, 0, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &s->word, FUTEX_WAKE, 1, NULL, NULL, 0);
        _exit(0);
    }
    sleep_us(5000);
    uint32_t v = noise_u32() | 1;
    __atomic_store_n(&s->word, v, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &s->word, FUTEX_WAKE, 1, NULL, NULL, 0);
    while (__atomic_load_n(&s->word, __ATOMIC_SEQ_CST) == v)
        syscall(SYS_futex, &s->word, FUTEX_WAIT, v, NULL, NULL, 0);
    wait_exit(child, 0);

    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        if ((pids[i] = OK(fork())) == 0) {
            for (int k = 0; k < 20; k++) {
                OK0(pthread_mutex_lock(&s->m));
                while (s->turn % 3 != i) OK0(pthread_cond_wait(&s->c, &s->m));
                s->order[s->n++] = i;
                s->turn++;
                OK0(pthread_cond_broadcast(&s->c));
                OK0(pthread_mutex_unlock(&s->m));
            }
            _exit(0);
        }
    for (int i = 0; i < 3; i++) wait_exit(pids[i], 0);
    CHECK(s->n == 60);
    for (int i = 0; i < 60; i++) CHECK(s->order[i] == i % 3);
    return 0;
}
