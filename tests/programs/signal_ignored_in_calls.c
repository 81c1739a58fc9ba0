// Signals without an effect (ignored by default, or by the program) break no call off, also none of those that the kernel never restarts: epoll_wait, sigtimedwait, semop.
// cflags: -pthread
#include "check.h"
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>

static volatile int done;

static void *epolls(void *arg) {
    int e = OK(epoll_create1(0));
    struct epoll_event ev;
    while (!done) CHECK(epoll_wait(e, &ev, 1, 20) == 0);
    OK(close(e));
    return arg;
}

static void *waits(void *arg) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec t = {0, 20000000};
    while (!done) FAILS(sigtimedwait(&set, NULL, &t), EAGAIN);
    return arg;
}

static void *semaphores(void *arg) {
    int id = OK(semget(IPC_PRIVATE, 1, 0600));
    struct sembuf take = {0, -1, 0};
    struct timespec t = {0, 20000000};
    while (!done) FAILS(semtimedop(id, &take, 1, &t), EAGAIN);
    OK(semctl(id, 0, IPC_RMID));
    return arg;
}

int main(void) {
    signal(SIGUSR1, SIG_IGN);
    pthread_t t[3];
    OK0(pthread_create(&t[0], NULL, epolls, NULL));
    OK0(pthread_create(&t[1], NULL, waits, NULL));
    OK0(pthread_create(&t[2], NULL, semaphores, NULL));
    for (int i = 0; i < 40; i++) {
        pid_t c = OK(fork());
        if (c == 0) _exit(0);
        CHECK(waitpid(c, NULL, 0) == c);
        for (int j = 0; j < 3; j++) {
            OK0(pthread_kill(t[j], SIGUSR1));
            OK0(pthread_kill(t[j], SIGWINCH));
        }
        sleep_us(2000);
    }
    done = 1;
    for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
    puts("nothing was interrupted");
    return 0;
}
