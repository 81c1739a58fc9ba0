// RLIMIT_CPU: SIGXCPU at the soft limit is handled, the hard limit kills. (CPU time, so about 1 s.)
#include "../programs/check.h"

static volatile int hits;
static void on(int s) { (void)s; hits++; }

int main(void) {
    pid_t c = OK(fork());
    if (c == 0) {
        signal(SIGXCPU, on);
        OK(setrlimit(RLIMIT_CPU, &(struct rlimit){1, 2}));
        volatile long n = 0;
        while (!hits) n++;
        printf("counted %ld\n", n);
        _exit(3);
    }
    wait_exit(c, 3);
    return 0;
}
