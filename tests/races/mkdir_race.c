// Processes make and remove the same directories and files: who succeeds is the output.
#include "../programs/check.h"

int main(void) {
    pid_t pids[4];
    for (int p = 0; p < 4; p++)
        if ((pids[p] = OK(fork())) == 0) {
            int made = 0, removed = 0, created = 0, unlinked = 0, renamed = 0;
            for (int i = 0; i < 150; i++) {
                char d[16], f[16];
                snprintf(d, sizeof d, "d%d", i % 5);
                snprintf(f, sizeof f, "f%d", i % 3);
                made += mkdir(d, 0700) == 0;
                int fd = open(f, O_CREAT | O_EXCL | O_WRONLY, 0600);
                if (fd != -1) {
                    created++;
                    close(fd);
                }
                removed += rmdir(d) == 0;
                renamed += rename(f, "other") == 0;
                unlinked += unlink(f) == 0;
                if (i % 20 == p) sched_yield();
            }
            printf("%d: made %d removed %d created %d unlinked %d renamed %d\n", p, made, removed, created, unlinked, renamed);
            _exit(0);
        }
    for (int p = 0; p < 4; p++) wait_exit(pids[p], 0);
    return 0;
}
