// Pseudo terminals: canonical input, echo, line editing, raw mode, window size with SIGWINCH, hang-up.
// cflags: -lutil
#include "check.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile int winches, hups;
static void on(int s) { if (s == SIGWINCH) winches++; else hups++; }

int main(void) {
    int m, s;
    char name[64], buf[256];
    OK(openpty(&m, &s, name, NULL, NULL));
    printf("terminal %s\n", name);
    CHECK(isatty(s) && isatty(m));
    char other[64];
    CHECK(ttyname_r(s, other, sizeof other) == 0 && strcmp(name, other) == 0);
    write_all(m, "helxx\x7f\x7flo\n", 10);
    ssize_t n = OK(read(s, buf, sizeof buf));
    CHECK(n == 6 && memcmp(buf, "hello\n", 6) == 0);
    n = OK(read(m, buf, sizeof buf));
    CHECK(n > 5 && memcmp(buf, "helxx", 5) == 0); // echo
    write_all(s, "a\n", 2);
    CHECK(read_all(m, buf, 3) == 3 && memcmp(buf, "a\r\n", 3) == 0);
    struct termios t;
    OK(tcgetattr(s, &t));
    CHECK(t.c_lflag & ECHO);
    cfmakeraw(&t);
    t.c_cc[VMIN] = 3;
    t.c_cc[VTIME] = 0;
    OK(tcsetattr(s, TCSANOW, &t));
    uint32_t r = noise_u32();
    write_all(m, &r, 2);
    write_all(m, (char *)&r + 2, 2);
    CHECK(read_all(s, buf, 4) == 4 && memcmp(buf, &r, 4) == 0);
    OK(tcflush(s, TCIOFLUSH));
    int q = 0;
    write_all(m, "zz", 2);
    for (int i = 0; i < 1000 && q < 2; i++) { // the kernel passes input on in the background
        OK(ioctl(s, FIONREAD, &q));
        usleep(1000);
    }
    CHECK(q == 2);

    // On its own terminal a session gets SIGWINCH and SIGHUP.
    int up[2];
    OK(pipe(up));
    pid_t child = OK(fork());
    if (child == 0) {
        OK(close(m));
        signal(SIGWINCH, on);
        signal(SIGHUP, on);
        OK(setsid());
        OK(ioctl(s, TIOCSCTTY, 0));
        write_all(up[1], "r", 1);
        while (!winches) usleep(1000);
        struct winsize w;
        OK(ioctl(s, TIOCGWINSZ, &w));
        CHECK(w.ws_row == 30 && w.ws_col == 100);
        write_all(up[1], "w", 1);
        while (!hups) usleep(1000);
        CHECK(read(s, buf, 1) <= 0);
        FAILS(write(s, "x", 1), EIO);
        _exit(0);
    }
    CHECK(read(up[0], buf, 1) == 1);
    struct winsize w = {30, 100, 0, 0};
    OK(ioctl(m, TIOCSWINSZ, &w));
    CHECK(read(up[0], buf, 1) == 1);
    OK(close(s));
    OK(close(m));
    wait_exit(child, 0);
    printf("value %08x\n", r);
    return 0;
}
