// Processes race on one shared mapping, half of them on the same file by write() too.
#include "../programs/check.h"

enum { N = 3, ROUNDS = 20000 };

int main(void) {
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 4096));
    volatile uint32_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    pid_t pids[N];
    for (int p = 0; p < N; p++)
        if ((pids[p] = OK(fork())) == 0) {
            uint32_t h = p;
            for (int i = 0; i < ROUNDS; i++) {
                m[0] = m[0] + 1;
                h = h * 31 + m[1];
                if (i % 100 == p) m[1] = h;
                if (i % 500 == 0 && p) {
                    if (pwrite(fd, &h, 4, 8) != 4) _exit(1);
                    h += m[3];
                }
                if (i % 1000 == 0) sched_yield();
            }
            m[8 + p] = h;
            _exit(0);
        }
    for (int p = 0; p < N; p++) wait_exit(pids[p], 0);
    printf("counter %u word %08x file %08x hashes %08x %08x %08x\n", m[0], m[1], m[2], m[8], m[9], m[10]);
    return 0;
}
