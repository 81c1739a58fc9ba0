// Orphans go to the nearest subreaper; PR_SET_PDEATHSIG; a daemon's double fork.
#include "check.h"
#include <sys/prctl.h>

int main(void) {
    OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    int p[2];
    OK(pipe(p));
    pid_t mid = OK(fork());
    if (mid == 0) {
        pid_t was = getpid(), inner = OK(fork());
        if (inner == 0) {
            while (getppid() == was) usleep(1000);
            pid_t now = getppid();
            write_all(p[1], &now, sizeof now);
            _exit(8);
        }
        _exit(0);
    }
    wait_exit(mid, 0);
    pid_t said;
    CHECK(read(p[0], &said, sizeof said) == sizeof said && said == getpid());
    int status;
    pid_t orphan = OK(wait(&status));
    CHECK(WEXITSTATUS(status) == 8);
    printf("adopted %d of %d\n", orphan, mid);

    // A daemon: new session, no terminal, not a session leader in the end.
    mid = OK(fork());
    if (mid == 0) {
        OK(setsid());
        pid_t d = OK(fork());
        if (d) _exit(0);
        OK(chdir("/"));
        CHECK(getsid(0) != getpid() && open("/dev/tty", O_RDWR) == -1);
        pid_t me = getpid();
        write_all(p[1], &me, sizeof me);
        _exit(0);
    }
    wait_exit(mid, 0);
    CHECK(read(p[0], &said, sizeof said) == sizeof said);
    wait_exit(said, 0);

    // The death of the parent thread sends its children this signal.
    mid = OK(fork());
    if (mid == 0) {
        pid_t kid = OK(fork());
        if (kid == 0) {
            OK(prctl(PR_SET_PDEATHSIG, SIGUSR2));
            int sig = 0;
            OK(prctl(PR_GET_PDEATHSIG, &sig));
            CHECK(sig == SIGUSR2);
            pid_t me = getpid();
            write_all(p[1], &me, sizeof me);
            for (;;) pause();
        }
        CHECK(read(p[0], &said, sizeof said) == sizeof said);
        write_all(p[1], &said, sizeof said);
        _exit(0);
    }
    wait_exit(mid, 0);
    CHECK(read(p[0], &said, sizeof said) == sizeof said);
    wait_signal(said, SIGUSR2);
    return 0;
}
