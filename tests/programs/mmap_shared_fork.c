// Shared anonymous memory across fork: three processes race on a plain and on an atomic counter.
#include "check.h"

int main(void) {
    enum { N = 3, ROUNDS = 50000 };
    volatile long *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    pid_t pids[N];
    for (int i = 0; i < N; i++)
        if ((pids[i] = OK(fork())) == 0) {
            s[2] |= 1 << i;
            while (s[2] != (1 << N) - 1 && s[3] < 1000) { s[3]++; sched_yield(); s[2] |= 1 << i; }
            for (int k = 0; k < ROUNDS; k++) {
                s[0] = s[0] + 1;
                __atomic_add_fetch(&s[1], 1, __ATOMIC_SEQ_CST);
                if (k % 10000 == 0) sched_yield();
            }
            _exit(0);
        }
    for (int i = 0; i < N; i++) wait_exit(pids[i], 0);
    CHECK(s[1] == N * ROUNDS && s[0] <= N * ROUNDS && s[0] >= ROUNDS / 2);
    printf("plain %ld waits %ld\n", s[0], s[3]);
    return 0;
}
