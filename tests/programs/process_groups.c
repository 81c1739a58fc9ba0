// Process groups and sessions: setpgid, getpgid, setsid, kill and waitpid of a whole group, errors.
#include "check.h"

static volatile int hits;
static void on(int s) { (void)s; hits++; }

int main(void) {
    signal(SIGUSR1, on);
    int up[2], go[2];
    char b;
    OK(pipe(up));
    OK(pipe(go));
    pid_t group = 0, kids[3];
    for (int i = 0; i < 3; i++) {
        kids[i] = OK(fork());
        if (kids[i] == 0) {
            OK(setpgid(0, group));
            write_all(up[1], "r", 1);
            while (!hits) usleep(1000);
            _exit(40 + i);
        }
        if (i == 0) group = kids[0];
        CHECK(read(up[0], &b, 1) == 1);
    }
    CHECK(getpgid(kids[2]) == group && getpgrp() != group);
    OK(kill(-group, SIGUSR1));
    int sum = 0, status;
    for (int i = 0; i < 3; i++) {
        CHECK(waitpid(-group, &status, 0) > 0);
        sum += WEXITSTATUS(status);
    }
    CHECK(sum == 123 && hits == 0);
    FAILS(waitpid(-group, &status, 0), ECHILD);
    FAILS(kill(-group, SIGUSR1), ESRCH);

    pid_t c = OK(fork());
    if (c == 0) {
        CHECK(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid());
        FAILS(setsid(), EPERM);
        FAILS(setpgid(0, 0), EPERM);
        FAILS(setpgid(0, getppid()), EPERM);
        OK(killpg(getpgrp(), SIGUSR1)); // only itself
        CHECK(hits == 1);
        _exit(0);
    }
    wait_exit(c, 0);
    CHECK(hits == 0);
    FAILS(setpgid(0x3ffffff, 0), ESRCH);
    FAILS(getpgid(0x3ffffff), ESRCH);
    printf("group %d session %d\n", group, getsid(0));
    return 0;
}
