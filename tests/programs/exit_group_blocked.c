// exit, exit_group, a fatal signal and abort while threads are blocked in read, futex, nanosleep, accept and wait, or compute.
// cflags: -pthread
#include "../programs/check.h"
#include <sys/socket.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *read_(void *a) { char c; (void)a; int p[2]; OK(pipe(p)); read(p[0], &c, 1); return NULL; }
static void *lock_(void *a) { (void)a; pthread_mutex_lock(&m); return NULL; }
static void *sleep_(void *a) { (void)a; sleep(1000); return NULL; }
static void *spin_(void *a) { (void)a; for (volatile long i = 0;; i++) {} return NULL; }
static void *accept_(void *a) {
    (void)a;
    int s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr sa = {.sa_family = AF_UNIX};
    OK(bind(s, &sa, sizeof(sa_family_t)));
    OK(listen(s, 1));
    accept(s, NULL, NULL);
    return NULL;
}
static void *end_(void *a) { sleep_us(5000); _exit((int)(long)a); }

int main(void) {
    void *(*fns[])(void *) = {read_, lock_, sleep_, spin_, accept_};
    for (int how = 0; how < 5; how++) {
        pid_t c = OK(fork());
        if (c == 0) {
            pthread_mutex_lock(&m);
            pthread_t t;
            for (int i = 0; i < 5; i++) OK0(pthread_create(&t, NULL, fns[i], NULL));
            sleep_us(5000);
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            if (how == 0) exit(31);
            if (how == 1) { OK0(pthread_create(&t, NULL, end_, (void *)32L)); for (;;) pause(); }
            if (how == 2) kill(getpid(), SIGTERM);
            if (how == 3) abort();
            if (how == 4) for (;;) pause();
        }
        if (how == 4) {
            sleep_us(10000);
            kill(c, SIGKILL);
        }
        if (how < 2) wait_exit(c, 31 + how);
        else wait_signal(c, how == 2 ? SIGTERM : how == 3 ? SIGABRT : SIGKILL);
        printf("way %d ended %d\n", how, c);
    }
    return 0;
}
