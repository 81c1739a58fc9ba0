// Children that make calls without a pause are killed at any moment, also within their calls.
#include "../programs/check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

int main(void) {
    int killed = 0;
    for (int i = 0; i < 12; i++) {
        int p[2];
        OK(pipe(p));
        pid_t child = OK(fork());
        if (child == 0) {
            int f = OK(open("/dev/zero", O_RDONLY));
            char b[64];
            for (unsigned long n = 0;; n++) {
                if (read(f, b, 64) != 64) _exit(1);
                if (n % 64 == 0 && write(p[1], &n, sizeof n) != sizeof n) _exit(2);
                getppid();
            }
        }
        close(p[1]);
        unsigned long n = 0, last = 0;
        for (int k = 0; k <= i * 3; k++) CHECK(read(p[0], &n, sizeof n) == sizeof n);
        OK(kill(child, SIGKILL));
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        while (read(p[0], &n, sizeof n) == sizeof n) last = n;
        close(p[0]);
        killed++;
        printf("%d: last %lu\n", i, last);
    }
    printf("%d killed\n", killed);
    return 0;
}
