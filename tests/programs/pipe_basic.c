// Pipes: short reads, atomic small writes, end of file, EPIPE and SIGPIPE, F_SETPIPE_SZ, FIONREAD.
#include "check.h"
#include <sys/ioctl.h>

static volatile sig_atomic_t pipes;
static void on_pipe(int s) { (void)s; pipes++; }

int main(void) {
    int p[2];
    OK(pipe(p));
    char buf[100];
    uint32_t r = noise_u32();
    write_all(p[1], &r, 4);
    write_all(p[1], "tail", 4);
    int n = 0;
    OK(ioctl(p[0], FIONREAD, &n));
    CHECK(n == 8);
    CHECK(read(p[0], buf, 6) == 6 && memcmp(buf, &r, 4) == 0);
    CHECK(read(p[0], buf, sizeof buf) == 2);
    FAILS(read(p[1], buf, 1), EBADF);
    FAILS(lseek(p[0], 0, SEEK_CUR), ESPIPE);
    int size = OK(fcntl(p[0], F_SETPIPE_SZ, 5000));
    CHECK(size >= 5000 && fcntl(p[1], F_GETPIPE_SZ) == size);
    OK(close(p[1]));
    CHECK(read(p[0], buf, 1) == 0);
    OK(close(p[0]));

    OK(pipe2(p, O_CLOEXEC));
    CHECK(fcntl(p[0], F_GETFD) == FD_CLOEXEC);
    OK(close(p[0]));
    signal(SIGPIPE, on_pipe);
    FAILS(write(p[1], "x", 1), EPIPE);
    CHECK(pipes == 1);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(p[1], "x", 1), EPIPE);
    pid_t child = OK(fork());
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        write(p[1], "x", 1) == 1 ? _exit(1) : _exit(2);
    }
    wait_signal(child, SIGPIPE);
    printf("value %08x size %d\n", r, size);
    return 0;
}
