// epoll_pwait, ppoll and pselect with a signal mask: the signal arrives only inside the call.
#include "check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static volatile int hits;
static void on(int s) { (void)s; hits++; }

int main(void) {
    sigset_t block, none;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    OK(sigprocmask(SIG_BLOCK, &block, NULL));
    signal(SIGUSR1, on);
    int ep = OK(epoll_create1(0)), p[2];
    OK(pipe(p));
    struct epoll_event e = {.events = EPOLLIN};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));

    raise(SIGUSR1);
    CHECK(hits == 0);
    FAILS(epoll_pwait(ep, &e, 1, 5000, &none), EINTR);
    CHECK(hits == 1);
    raise(SIGUSR1);
    struct pollfd pf = {p[0], POLLIN, 0};
    struct timespec t = {5, 0};
    FAILS(ppoll(&pf, 1, &t, &none), EINTR);
    CHECK(hits == 2);
    raise(SIGUSR1);
    fd_set r;
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    FAILS(pselect(p[0] + 1, &r, NULL, NULL, &t, &none), EINTR);
    CHECK(hits == 3);

    // The same with the signal from another process while the call blocks.
    pid_t parent = getpid();
    for (int kind = 0; kind < 3; kind++) {
        pid_t c = OK(fork());
        if (c == 0) {
            sleep_us(10000);
            kill(parent, SIGUSR1);
            _exit(0);
        }
        int64_t start = now_ns();
        if (kind == 0) FAILS(epoll_pwait(ep, &e, 1, 5000, &none), EINTR);
        if (kind == 1) FAILS(ppoll(&pf, 1, &t, &none), EINTR);
        if (kind == 2) FAILS(pselect(0, NULL, NULL, NULL, NULL, &none), EINTR);
        printf("kind %d after %lld ns\n", kind, (long long)(now_ns() - start));
        CHECK(hits == 4 + kind);
        wait_exit(c, 0);
    }
    // Ready data wins over the pending signal's absence: no signal, no EINTR.
    write_all(p[1], "x", 1);
    CHECK(ppoll(&pf, 1, &t, &none) == 1 && pf.revents == POLLIN);
    sigset_t now;
    OK(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(sigismember(&now, SIGUSR1));
    return 0;
}
