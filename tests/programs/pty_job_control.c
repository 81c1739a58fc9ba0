// Job control on a pty: sessions, foreground group, SIGTTIN and SIGTTOU, Ctrl-C and Ctrl-Z typed at the master, SIGCONT.
#include "check.h"
#include <sys/ioctl.h>
#include <termios.h>

static volatile int ints;
static void on_int(int s) { (void)s; ints++; }

static int shell(int s, int up) {
    OK(setsid());
    OK(ioctl(s, TIOCSCTTY, 0));
    CHECK(tcgetpgrp(s) == getpid() && tcgetsid(s) == getpid());
    char buf[64];
    // A background job that reads is stopped by SIGTTIN; in the foreground it goes on.
    pid_t job = OK(fork());
    if (job == 0) {
        OK(setpgid(0, 0));
        CHECK(read(s, buf, sizeof buf) == 3 && memcmp(buf, "in\n", 3) == 0);
        _exit(11);
    }
    setpgid(job, job);
    int status;
    CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    OK(tcsetpgrp(s, job));
    OK(kill(-job, SIGCONT));
    CHECK(waitpid(job, &status, WCONTINUED) == job && WIFCONTINUED(status));
    write_all(up, "i", 1); // the master types "in\n"
    wait_exit(job, 11);

    // Now the shell itself is in the background: tcsetpgrp gives SIGTTOU unless that is ignored.
    signal(SIGTTOU, SIG_IGN);
    OK(tcsetpgrp(s, getpid()));
    signal(SIGTTOU, SIG_DFL);

    // A background job that writes is stopped when TOSTOP is set.
    struct termios t;
    OK(tcgetattr(s, &t));
    t.c_lflag |= TOSTOP;
    OK(tcsetattr(s, TCSANOW, &t));
    job = OK(fork());
    if (job == 0) {
        OK(setpgid(0, 0));
        write_all(s, "out\n", 4);
        _exit(12);
    }
    setpgid(job, job);
    CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
    t.c_lflag &= ~TOSTOP;
    OK(tcsetattr(s, TCSANOW, &t));
    OK(kill(job, SIGCONT));
    wait_exit(job, 12);

    // Ctrl-Z stops the foreground group, Ctrl-C interrupts it.
    job = OK(fork());
    if (job == 0) {
        OK(setpgid(0, 0));
        signal(SIGINT, on_int);
        signal(SIGTTOU, SIG_IGN);
        OK(tcsetpgrp(s, getpid()));
        signal(SIGTTOU, SIG_DFL);
        write_all(up, "z", 1); // the master types Ctrl-Z
        while (!ints) usleep(1000);
        _exit(13);
    }
    CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    OK(kill(-job, SIGCONT));
    write_all(up, "c", 1); // the master types Ctrl-C
    wait_exit(job, 13);
    printf("jobs under %d done\n", getpid());
    return 0;
}

int main(void) {
    int m = OK(posix_openpt(O_RDWR | O_NOCTTY));
    OK(grantpt(m));
    OK(unlockpt(m));
    char name[64], c, buf[256];
    CHECK(ptsname_r(m, name, sizeof name) == 0);
    int s = OK(open(name, O_RDWR | O_NOCTTY)), up[2];
    OK(pipe(up));
    pid_t child = OK(fork());
    if (child == 0) {
        OK(close(m));
        OK(close(up[0]));
        signal(SIGHUP, SIG_IGN);
        _exit(shell(s, up[1]));
    }
    OK(close(s));
    OK(close(up[1]));
    int seen = 0;
    while (read(up[0], &c, 1) == 1) {
        seen++;
        if (c == 'i') write_all(m, "in\n", 3);
        if (c == 'z') write_all(m, "\x1a", 1);
        if (c == 'c') write_all(m, "\x03", 1);
    }
    CHECK(seen == 3);
    wait_exit(child, 0);
    ssize_t n, total = 0;
    while ((n = read(m, buf, sizeof buf)) > 0) total += n;
    printf("%s gave %zd bytes\n", name, total);
    return 0;
}
