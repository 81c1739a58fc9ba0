// A handler uses what the main program is in the middle of changing.
// cflags: -O1
#include "bugs.h"
static volatile int low, high, bad, hits;
static void on(int s) { (void)s; hits++; if (low != high) bad = 1; }
int main(void) {
    struct sigaction sa = {.sa_handler = on};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 0}, {0, 1500}};
    setitimer(ITIMER_REAL, &it, NULL);
    while (!hits) {
        low++;
        high++;
        for (volatile int i = 0; i < 2000; i++) {}
    }
    return bad;
}
