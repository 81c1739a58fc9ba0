// A signal that ends a process while it reads its own maps in small pieces: its buffer must hold the
// same at the end whenever the signal came, and no line that the program is not meant to see.
#include "../programs/check.h"
#include <fcntl.h>

static char buf[160];

static void done(int sig) { (void)sig; _exit(7); }

int main(void) {
    int ended = 0;
    for (int i = 0; i < 20; i++) {
        int ready[2];
        OK0(pipe(ready));
        pid_t child = fork();
        if (child == 0) {
            signal(SIGUSR1, done);
            write(ready[1], "", 1);
            for (;;) {
                int fd = open("/proc/self/smaps", O_RDONLY);
                while (read(fd, buf, sizeof buf) > 0);
                close(fd);
            }
        }
        char c;
        read(ready[0], &c, 1);
        usleep(300 * i);
        OK0(kill(child, SIGUSR1));
        int status;
        waitpid(child, &status, 0);
        ended += WIFEXITED(status) && WEXITSTATUS(status) == 7;
        close(ready[0]);
        close(ready[1]);
    }
    printf("%d\n", ended);
    return 0;
}
