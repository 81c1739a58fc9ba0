// Handlers for whose frames there is no room: the process ends by SIGSEGV, unless a handler for that one has room.
#include "check.h"

static char *nowhere;
static int out = -1;
static void on(int s) {
    (void)s;
    _exit(3);
}
static void on_segv(int s, siginfo_t *si, void *uc) {
    (void)uc;
    dprintf(out, "handler of %d, code %d\n", s, si->si_code);
    _exit(7);
}

static void act(int signal, void *handler, int flags) {
    struct sigaction a = {0};
    a.sa_sigaction = handler;
    a.sa_flags = flags;
    OK(sigaction(signal, &a, NULL));
}

static int run(void (*what)(void)) {
    pid_t child = OK(fork());
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        stack_t s = {.ss_sp = nowhere, .ss_size = 65536};
        OK(sigaltstack(&s, NULL));
        what();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void fault(void) {
    act(SIGSEGV, on, SA_ONSTACK);
    *(volatile char *)nowhere = 1;
}

static void bus_fault(void) {
    act(SIGBUS, on, SA_ONSTACK);
    raise(SIGBUS);
}

static void sent(void) {
    act(SIGUSR1, on, SA_ONSTACK);
    raise(SIGUSR1);
}

static void sent_and_handled(void) {
    act(SIGSEGV, on_segv, SA_SIGINFO);
    act(SIGUSR1, on, SA_ONSTACK);
    raise(SIGUSR1);
}

static void sent_and_blocked(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    sent_and_handled();
}

int main(void) {
    nowhere = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(nowhere != MAP_FAILED);
    out = 1;
    int status = run(fault);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = run(bus_fault);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = run(sent);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = run(sent_and_handled);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    status = run(sent_and_blocked);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    return 0;
}
