// Signals and threads: pthread_kill, tgkill, per-thread masks, a process signal taken by the one thread that does not block it, sigwait thread.
// cflags: -pthread
#include "check.h"

static volatile int taker[4];
static volatile int ready, quit;
static __thread long me;

static void on(int s, siginfo_t *si, void *uc) {
    (void)uc;
    (void)si;
    if (s == SIGUSR1) __atomic_add_fetch(&taker[me], 1, __ATOMIC_SEQ_CST);
}

static void *thread(void *arg) {
    me = (long)arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (me == 3) OK0(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!quit) usleep(500);
    return NULL;
}

static void *waiter(void *arg) {
    sigset_t *set = arg;
    int sig, n = 0;
    for (;;) {
        OK0(sigwait(set, &sig));
        if (sig == SIGTERM) return (void *)(long)n;
        n++;
        __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    }
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    OK0(pthread_sigmask(SIG_BLOCK, &set, NULL));
    handle(SIGUSR1, on, SA_RESTART);
    pthread_t t[4], w;
    for (long i = 1; i < 4; i++) OK0(pthread_create(&t[i], NULL, thread, (void *)i));
    while (ready < 3) usleep(500);
    OK(kill(getpid(), SIGUSR1)); // only thread 3 can take it
    while (!taker[3]) usleep(500);
    CHECK(taker[1] == 0 && taker[2] == 0 && taker[0] == 0);
    OK0(pthread_kill(t[3], SIGUSR1));
    while (taker[3] < 2) usleep(500);
    OK0(pthread_kill(t[1], SIGUSR1)); // blocked there, stays pending for that thread alone
    sleep_us(2000);
    CHECK(taker[1] == 0 && taker[3] == 2);
    sigset_t pend;
    OK(sigpending(&pend));
    CHECK(!sigismember(&pend, SIGUSR1));

    sigset_t ws;
    sigemptyset(&ws);
    sigaddset(&ws, SIGUSR2);
    sigaddset(&ws, SIGTERM);
    OK0(pthread_create(&w, NULL, waiter, &ws));
    for (int i = 0; i < 5; i++) {
        int before = ready;
        OK(kill(getpid(), SIGUSR2));
        while (ready == before) usleep(500);
    }
    OK(kill(getpid(), SIGTERM));
    void *n;
    OK0(pthread_join(w, &n));
    CHECK((long)n == 5);
    quit = 1;
    for (int i = 1; i < 4; i++) OK0(pthread_join(t[i], NULL));
    FAILS(syscall(SYS_tgkill, getpid(), 0x3ffffff, SIGUSR1), ESRCH);
    printf("taken %d %d %d\n", taker[1], taker[2], taker[3]);
    return 0;
}
