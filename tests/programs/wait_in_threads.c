// Several threads wait for children: any thread may reap any child unless __WNOTHREAD; fork in threads and in a signal handler; vfork in a thread.
// cflags: -pthread
#include "check.h"

static int reaped[4];
static pthread_barrier_t bar;

static void *reaper(void *arg) {
    long me = (long)arg;
    pthread_barrier_wait(&bar);
    int status;
    pid_t p;
    while ((p = waitpid(-1, &status, 0)) > 0) {
        CHECK(WIFEXITED(status));
        reaped[me]++;
    }
    CHECK(errno == ECHILD);
    return NULL;
}

static void *own(void *arg) {
    (void)arg;
    pid_t c = OK(fork());
    if (c == 0) _exit(5);
    int status;
    CHECK(waitpid(-1, &status, __WNOTHREAD) == c && WEXITSTATUS(status) == 5);
    c = vfork();
    if (c == 0) _exit(6);
    CHECK(waitpid(c, &status, 0) == c && WEXITSTATUS(status) == 6);
    return NULL;
}

static volatile pid_t from_handler;
static void on(int s) {
    (void)s;
    pid_t c = fork();
    if (c == 0) _exit(9);
    from_handler = c;
}

int main(void) {
    OK0(pthread_barrier_init(&bar, NULL, 4));
    for (int i = 0; i < 40; i++)
        if (OK(fork()) == 0) _exit(i);
    pthread_t t[4];
    for (long i = 0; i < 3; i++) OK0(pthread_create(&t[i], NULL, reaper, (void *)i));
    reaper((void *)3);
    for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
    CHECK(reaped[0] + reaped[1] + reaped[2] + reaped[3] == 40);
    pthread_t a, b;
    OK0(pthread_create(&a, NULL, own, NULL));
    OK0(pthread_create(&b, NULL, own, NULL));
    OK0(pthread_join(a, NULL));
    OK0(pthread_join(b, NULL));
    signal(SIGUSR1, on);
    raise(SIGUSR1);
    wait_exit(from_handler, 9);
    printf("reaped %d %d %d %d\n", reaped[0], reaped[1], reaped[2], reaped[3]);
    return 0;
}
