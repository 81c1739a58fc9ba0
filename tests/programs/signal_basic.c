// Handlers with siginfo from kill, raise, sigqueue and tgkill; one-shot, no-defer, masks during a handler.
#include "check.h"

static volatile int hits, depth, max_depth;
static volatile siginfo_t last;

static void on(int sig, siginfo_t *si, void *uc) {
    (void)sig;
    (void)uc;
    hits++;
    last = *si;
}

static void nested(int sig, siginfo_t *si, void *uc) {
    (void)si;
    (void)uc;
    depth++;
    if (depth > max_depth) max_depth = depth;
    if (hits++ < 3) raise(sig);
    depth--;
}

int main(void) {
    handle(SIGUSR1, on, 0);
    OK(kill(getpid(), SIGUSR1));
    CHECK(hits == 1 && last.si_signo == SIGUSR1 && last.si_code == SI_USER && last.si_pid == getpid() && last.si_uid == getuid());
    raise(SIGUSR1);
    CHECK(hits == 2 && last.si_code == SI_TKILL);
    union sigval v = {.sival_int = (int)noise_u32()};
    OK(sigqueue(getpid(), SIGUSR1, v));
    CHECK(hits == 3 && last.si_code == SI_QUEUE && last.si_value.sival_int == v.sival_int);
    OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
    CHECK(hits == 4);
    CHECK(kill(getpid(), 0) == 0);
    FAILS(kill(getpid(), 999), EINVAL);
    FAILS(kill(0x3ffffff, SIGUSR1), ESRCH);

    handle(SIGUSR1, on, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction sa;
    OK(sigaction(SIGUSR1, NULL, &sa));
    CHECK(hits == 5 && sa.sa_handler == SIG_DFL);

    hits = 0;
    handle(SIGUSR2, nested, 0);
    raise(SIGUSR2);
    CHECK(hits == 4 && max_depth == 1);
    hits = max_depth = 0;
    handle(SIGUSR2, nested, SA_NODEFER);
    raise(SIGUSR2);
    CHECK(hits == 4 && max_depth == 4);

    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    OK(sigprocmask(SIG_BLOCK, &set, &old));
    hits = 100;
    raise(SIGUSR2);
    raise(SIGUSR2);
    CHECK(hits == 100);
    OK(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR2));
    OK(sigprocmask(SIG_SETMASK, &old, NULL));
    CHECK(hits == 101);
    raise(SIGUSR2);
    signal(SIGUSR2, SIG_IGN);
    raise(SIGUSR2);
    CHECK(hits == 102);
    FAILS(sigaction(SIGKILL, &sa, NULL), EINVAL);
    printf("value %08x\n", v.sival_int);
    return 0;
}
