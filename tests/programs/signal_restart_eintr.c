// SA_RESTART against EINTR: read from a pipe, waitpid, nanosleep (with its remainder), futex wait, poll, flock.
#include "check.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/file.h>

static volatile int hits;
static void on(int s, siginfo_t *i, void *c) { (void)s; (void)i; (void)c; hits++; }

static pid_t kick(int n, void (*then)(void)) {
    pid_t parent = getpid(), c = OK(fork());
    if (c) return c;
    for (int i = 0; i < n; i++) {
        sleep_us(40000);
        kill(parent, SIGUSR1);
    }
    sleep_us(10000);
    if (then) then();
    _exit(5);
}

static int p[2];
static void feed(void) { write_all(p[1], "w", 1); }

int main(void) {
    OK(pipe(p));
    char c;
    handle(SIGUSR1, on, 0);
    pid_t k = kick(1, NULL);
    FAILS(read(p[0], &c, 1), EINTR);
    CHECK(hits == 1);
    wait_exit(k, 5);

    handle(SIGUSR1, on, SA_RESTART);
    k = kick(3, feed);
    CHECK(read(p[0], &c, 1) == 1 && c == 'w');
    CHECK(hits >= 2 && hits <= 4);
    wait_exit(k, 5);

    hits = 0;
    k = kick(1, NULL);
    int status;
    CHECK(waitpid(k, &status, 0) == k && WEXITSTATUS(status) == 5 && hits == 1);
    handle(SIGUSR1, on, 0);
    k = kick(1, NULL);
    FAILS(waitpid(k, &status, 0), EINTR);
    wait_exit(k, 5);

    handle(SIGUSR1, on, SA_RESTART); // nanosleep and poll are never restarted after a handler
    k = kick(1, NULL);
    struct timespec t = {10, 0}, rest = {0, 0};
    FAILS(nanosleep(&t, &rest), EINTR);
    CHECK(rest.tv_sec == 9 && rest.tv_nsec > 0);
    printf("rest %ld.%09ld\n", (long)rest.tv_sec, rest.tv_nsec);
    wait_exit(k, 5);
    k = kick(1, NULL);
    struct pollfd pf = {p[0], POLLIN, 0};
    FAILS(poll(&pf, 1, 10000), EINTR);
    wait_exit(k, 5);

    handle(SIGUSR1, on, 0);
    k = kick(1, NULL);
    uint32_t word = 1;
    FAILS(syscall(SYS_futex, &word, FUTEX_WAIT, 1, NULL, NULL, 0), EINTR);
    wait_exit(k, 5);

    int a = OK(open("l", O_CREAT | O_RDWR, 0600)), b = OK(open("l", O_RDWR));
    OK(flock(a, LOCK_EX));
    k = kick(1, NULL);
    FAILS(flock(b, LOCK_EX), EINTR);
    wait_exit(k, 5);
    return 0;
}
