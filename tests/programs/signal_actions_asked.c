// What rt_sigaction says of each signal, asked many times from one place: masks with every signal in them, flags, actions used up by SA_RESETHAND, after fork, posix_spawn's child and exec, and bad arguments.
#include "check.h"
#include <spawn.h>

extern char **environ;

struct action {
    unsigned long handler, flags, restorer, mask;
};

static __attribute__((noinline)) long ask(int signal, struct action *old, long size) {
    return syscall(SYS_rt_sigaction, signal, NULL, old, size);
}

static void handler(int signal) { (void)signal; }

static unsigned long sum_of_all(void) {
    unsigned long sum = 0;
    for (int s = 1; s <= 64; s++) {
        struct action a;
        memset(&a, 0xaa, sizeof a);
        CHECK(ask(s, &a, 8) == 0);
        // Without the addresses, which an exec changes.
        sum = sum * 1000003 + (a.handler > 1 ? 2 : a.handler);
        sum = sum * 1000003 + a.flags;
        sum = sum * 1000003 + a.mask;
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        // Handlers are gone, what was ignored still is.
        struct action a;
        CHECK(ask(SIGUSR1, &a, 8) == 0 && a.handler == 0 && a.mask == 0);
        CHECK(ask(SIGUSR2, &a, 8) == 0 && a.handler == 1);
        printf("%s: %lx\n", argv[1], sum_of_all());
        return 0;
    }
    printf("at first: %lx\n", sum_of_all());
    for (int s = 1; s <= 64; s++) {
        if (s == SIGKILL || s == SIGSTOP || s == SIGCHLD || s == 32 || s == 33) continue;
        struct sigaction act = {.sa_handler = s == SIGUSR2 ? SIG_IGN : handler};
        sigfillset(&act.sa_mask);
        if (s % 3 == 0) sigdelset(&act.sa_mask, s);
        act.sa_flags = (s & 1 ? SA_RESTART : 0) | (s & 2 ? SA_SIGINFO : 0) | (s & 4 ? SA_ONSTACK : 0);
        if (s == SIGTERM || s == SIGHUP) act.sa_flags |= SA_RESETHAND;
        CHECK(sigaction(s, &act, NULL) == 0);
    }
    for (int round = 0; round < 3; round++) {
        struct action a;
        CHECK(ask(SIGUSR1, &a, 8) == 0);
        CHECK(a.handler == (unsigned long)handler);
        CHECK(a.mask == ~(1ul << 8 | 1ul << 18 | 1ul << 31 | 1ul << 32));
        // The two that the kernel of a recording is never told of.
        CHECK(ask(SIGSEGV, &a, 8) == 0 && a.handler == (unsigned long)handler);
        CHECK(ask(SIGTRAP, &a, 8) == 0 && a.handler == (unsigned long)handler);
    }
    printf("set: %lx\n", sum_of_all());
    raise(SIGTERM);
    struct action a;
    CHECK(ask(SIGTERM, &a, 8) == 0 && a.handler == 0);
    CHECK(ask(SIGHUP, &a, 8) == 0 && a.handler == (unsigned long)handler);
    printf("used up: %lx\n", sum_of_all());

    pid_t child = fork();
    if (child == 0) {
        printf("child: %lx\n", sum_of_all());
        fflush(stdout);
        CHECK(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
        CHECK(ask(SIGUSR1, &a, 8) == 0 && a.handler == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(ask(SIGUSR1, &a, 8) == 0 && a.handler == (unsigned long)handler);

    fflush(stdout);
    char *args[] = {argv[0], "spawned", NULL};
    CHECK(posix_spawn(&child, argv[0], NULL, NULL, args, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(ask(SIGUSR1, &a, 8) == 0 && a.handler == (unsigned long)handler);

    // Set to what it is but for its flags, from a place that has set much already.
    for (int round = 0; round < 4; round++) {
        for (int s = 34; s <= 64; s++) {
            struct action d = {.flags = 0x04000000 | (round & 1 ? SA_RESTART : 0), .restorer = 4711, .mask = round};
            CHECK(syscall(SYS_rt_sigaction, s, &d, NULL, 8) == 0);
            CHECK(ask(s, &a, 8) == 0 && a.handler == 0 && a.flags == d.flags && a.restorer == 4711);
            CHECK(a.mask == (unsigned long)round);
        }
    }
    CHECK(ask(SIGKILL, &a, 8) == 0 && a.handler == 0);
    CHECK(ask(0, &a, 8) == -1 && errno == EINVAL);
    CHECK(ask(65, &a, 8) == -1 && errno == EINVAL);
    CHECK(ask(-1, &a, 8) == -1 && errno == EINVAL);
    CHECK(ask(SIGINT, &a, 16) == -1 && errno == EINVAL);
    CHECK(ask(SIGINT, NULL, 8) == 0);
    CHECK(ask(SIGINT, (struct action *)16, 8) == -1 && errno == EFAULT);

    fflush(stdout);
    execl(argv[0], argv[0], "executed", NULL);
    return 1;
}
