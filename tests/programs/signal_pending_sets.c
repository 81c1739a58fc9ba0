// What is pending: signals that faults cause, sent while blocked, also after exec; one sent to the thread and to the process comes twice.
#include "check.h"

static int order[8], n;
static void note(int s) { if (n < 8) order[n++] = s; }

static void pending(const char *where, int a, int b, int c, int d) {
    sigset_t s;
    OK(sigpending(&s));
    for (int i = 1; i < 32; i++) {
        int wanted = i == a || i == b || i == c || i == d;
        if (sigismember(&s, i) != wanted) printf("%s: signal %d\n", where, i);
        CHECK(sigismember(&s, i) == wanted);
    }
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        pending("after exec", SIGTRAP, SIGSYS, SIGSEGV, SIGUSR2);
        noise("after exec");
        return 0;
    }
    sigset_t all, before;
    sigfillset(&all);
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = note;
    sa.sa_mask = all;
    for (int i = 0; i < 3; i++) OK(sigaction((int[]){SIGUSR1, SIGUSR2, SIGALRM}[i], &sa, NULL));
    OK(sigprocmask(SIG_BLOCK, &all, &before));
    OK(kill(getpid(), SIGUSR2));
    OK(kill(getpid(), SIGUSR1));
    OK(kill(getpid(), SIGALRM));
    OK(kill(getpid(), SIGALRM));
    OK(tgkill(getpid(), gettid(), SIGUSR2));
    OK(tgkill(getpid(), gettid(), SIGUSR2));
    pending("four", SIGUSR1, SIGUSR2, SIGALRM, 0);
    OK(sigprocmask(SIG_SETMASK, &before, NULL));
    CHECK(n == 4 && order[0] == SIGUSR2 && order[1] == SIGUSR1 && order[2] == SIGUSR2 && order[3] == SIGALRM);

    OK(sigprocmask(SIG_BLOCK, &all, NULL));
    raise(SIGTRAP);
    pending("one", SIGTRAP, 0, 0, 0);
    raise(SIGSYS);
    raise(SIGSEGV);
    raise(SIGUSR2);
    pending("four", SIGTRAP, SIGSYS, SIGSEGV, SIGUSR2);
    pid_t c = OK(fork());
    if (c == 0) {
        pending("child", 0, 0, 0, 0);
        _exit(3);
    }
    signal(SIGCHLD, SIG_IGN);
    noise("before exec");
    execl("/proc/self/exe", "again", "x", NULL);
    return 1;
}
