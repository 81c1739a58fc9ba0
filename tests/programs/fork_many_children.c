// 200 short children, reaped in whatever order they end.
#include "check.h"

int main(void) {
    enum { N = 200, AT_ONCE = 20 };
    int alive = 0, started = 0, sum = 0;
    uint32_t order = 0;
    pid_t pids[N];
    while (started < N || alive) {
        while (started < N && alive < AT_ONCE) {
            pid_t c = OK(fork());
            if (c == 0) _exit(started % 100);
            pids[started++] = c;
            alive++;
        }
        int status;
        pid_t got = OK(wait(&status));
        CHECK(WIFEXITED(status));
        int i = 0;
        while (i < started && pids[i] != got) i++;
        CHECK(i < started && WEXITSTATUS(status) == i % 100);
        pids[i] = 0;
        sum += WEXITSTATUS(status);
        order = order * 31 + i;
        alive--;
    }
    CHECK(sum == N / 100 * 4950);
    printf("order %08x\n", order);
    return 0;
}
