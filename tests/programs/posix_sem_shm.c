// POSIX semaphores, named and unnamed, shared memory objects, between threads and processes.
// cflags: -pthread -lrt
#include "check.h"
#include <semaphore.h>

static sem_t local;
static int sum;
static void *post(void *arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        OK(sem_wait(&local));
        sum++;
        OK(sem_post(&local));
    }
    return NULL;
}

int main(void) {
    OK(sem_init(&local, 0, 1));
    pthread_t t[3];
    for (int i = 0; i < 3; i++) OK0(pthread_create(&t[i], NULL, post, NULL));
    for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
    CHECK(sum == 600);
    OK(sem_wait(&local));
    FAILS(sem_trywait(&local), EAGAIN);
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    FAILS(sem_timedwait(&local, &ts), ETIMEDOUT);

    char name[64], shm[64];
    snprintf(name, sizeof name, "/scribe-sem-%d-%08x", getpid(), noise_u32());
    snprintf(shm, sizeof shm, "/scribe-shm-%d-%08x", getpid(), noise_u32());
    sem_t *a = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(a != SEM_FAILED);
    sem_t *same = sem_open(name, 0);
    CHECK(same == a);
    int fd = OK(shm_open(shm, O_RDWR | O_CREAT | O_EXCL, 0600));
    OK(ftruncate(fd, 4096));
    volatile int *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    pid_t c = OK(fork());
    if (c == 0) {
        int f2 = OK(shm_open(shm, O_RDWR, 0));
        volatile int *n = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f2, 0);
        sem_t *b = sem_open(name, 0);
        n[3] = getpid();
        OK(sem_post(b));
        while (n[4] != getpid()) sched_yield();
        _exit(0);
    }
    OK(sem_wait(a));
    CHECK(m[3] == c);
    m[4] = c;
    wait_exit(c, 0);
    OK(sem_close(a));
    OK(sem_unlink(name));
    OK(shm_unlink(shm));
    FAILS(shm_open(shm, O_RDWR, 0), ENOENT);
    printf("%s %s at %p\n", name, shm, (void *)m);
    return 0;
}
