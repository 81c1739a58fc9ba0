// A process checks that a file is not there, then makes it; so does another.
// cflags: -O1
#include "bugs.h"
int main(void) {
    char name[64];
    snprintf(name, sizeof name, "/tmp/scribe-toctou-%d", getpid());
    int made = 0, status;
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            if (access(name, F_OK) == 0) _exit(0);
            int fd = open(name, O_CREAT | O_WRONLY, 0600);
            if (fd < 0) _exit(0);
            _exit(1);
        }
        usleep(2000);
    }
    while (wait(&status) > 0) made += WEXITSTATUS(status);
    unlink(name);
    return made > 1;
}
