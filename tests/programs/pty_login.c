// forkpty: a child with a controlling terminal it opens as /dev/tty, packet mode off, EIO when it has gone.
// cflags: -lutil
#include "check.h"
#include <pty.h>

int main(void) {
    int m;
    pid_t child = OK(forkpty(&m, NULL, NULL, NULL));
    if (child == 0) {
        int tty = OK(open("/dev/tty", O_RDWR));
        char line[64] = "";
        dprintf(tty, "name? ");
        ssize_t n = OK(read(0, line, sizeof line - 1));
        line[n - 1] = 0;
        dprintf(1, "hello %s, you are %d\n", line, getsid(0) == getpid());
        _exit(0);
    }
    char buf[1024] = "";
    size_t have = 0;
    int answered = 0;
    for (;;) {
        ssize_t n = read(m, buf + have, sizeof buf - 1 - have);
        if (n == -1) {
            CHECK(errno == EIO);
            break;
        }
        have += n;
        if (!answered && strstr(buf, "name? ")) {
            dprintf(m, "n%08x\n", noise_u32());
            answered = 1;
        }
    }
    wait_exit(child, 0);
    CHECK(strstr(buf, "you are 1"));
    for (char *p = buf; *p; p++) if (*p == '\r') *p = '|';
    printf("%s\n", buf);
    return 0;
}
