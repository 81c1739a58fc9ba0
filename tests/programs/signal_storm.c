// A child sends 2000 signals to a computing parent, which answers some: lost and merged ones differ from run to run.
#include "check.h"

static volatile long hits, steps_at[8];
static volatile long steps;
static void on(int s) { (void)s; if (hits < 8) steps_at[hits] = steps; hits++; }

int main(void) {
    signal(SIGUSR1, on);
    signal(SIGUSR2, on);
    pid_t me = getpid(), c = OK(fork());
    if (c == 0) {
        signal(SIGUSR1, SIG_IGN);
        for (int i = 0; i < 2000; i++) kill(me, i % 3 ? SIGUSR1 : SIGUSR2);
        _exit(0);
    }
    uint64_t x = 1;
    int status;
    while (waitpid(c, &status, WNOHANG) == 0)
        for (int i = 0; i < 2000; i++) {
            x = x * 31 + 7;
            steps++;
        }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && hits > 0 && hits <= 2000);
    printf("%ld handled, at steps %ld %ld %ld, x %llx\n", hits, steps_at[0], steps_at[1], steps_at[2], (unsigned long long)x);
    return 0;
}
