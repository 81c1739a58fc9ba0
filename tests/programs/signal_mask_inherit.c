// Masks, pending signals and dispositions over fork, thread creation and exec.
// cflags: -pthread
#include "check.h"

static volatile int hits;
static void on(int s) { (void)s; hits++; }

static void *thread(void *arg) {
    (void)arg;
    sigset_t s, p;
    OK0(pthread_sigmask(SIG_BLOCK, NULL, &s));
    CHECK(sigismember(&s, SIGUSR1));
    OK(sigpending(&p));
    CHECK(sigismember(&p, SIGUSR1)); // the process's
    return NULL;
}

int main(void) {
    signal(SIGUSR1, on);
    signal(SIGHUP, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    OK(kill(getpid(), SIGUSR1));
    pthread_t t;
    OK0(pthread_create(&t, NULL, thread, NULL));
    OK0(pthread_join(t, NULL));
    pid_t c = OK(fork());
    if (c == 0) {
        sigset_t s, p;
        OK(sigprocmask(SIG_BLOCK, NULL, &s));
        OK(sigpending(&p));
        CHECK(sigismember(&s, SIGUSR1) && !sigismember(&p, SIGUSR1));
        OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
        CHECK(hits == 0);
        raise(SIGUSR1);
        CHECK(hits == 1);
        // In a new program: SIGHUP stays ignored, SIGUSR1 is default again.
        execl("/bin/sh", "sh", "-c", "kill -HUP $$; echo alive $$; kill -USR1 $$; echo never", (char *)NULL);
        _exit(1);
    }
    wait_signal(c, SIGUSR1);
    OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
    CHECK(hits == 1);
    return 0;
}
