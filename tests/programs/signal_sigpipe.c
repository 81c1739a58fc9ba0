// SIGPIPE has its default at the start, also after exec: a writer without a reader dies of it; one that ignores it gets EPIPE.
#include "check.h"

static void default_at_start(void) {
    struct sigaction sa;
    OK(sigaction(SIGPIPE, NULL, &sa));
    CHECK(sa.sa_handler == SIG_DFL);
}

int main(int argc, char **argv) {
    (void)argv;
    default_at_start();
    int p[2];
    OK(pipe(p));
    OK(close(p[0]));
    pid_t c = OK(fork());
    if (c == 0) {
        if (write(p[1], "x", 1) == -1) _exit(1);
        _exit(2);
    }
    wait_signal(c, SIGPIPE);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(p[1], "x", 1), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    noise("here");
    if (argc == 1) execl("/proc/self/exe", "again", "x", NULL);
    return 0;
}
