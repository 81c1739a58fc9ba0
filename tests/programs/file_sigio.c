// Asynchronous notice: O_ASYNC with F_SETOWN and F_SETSIG on a socket, SIGURG, F_GETOWN_EX, a lease broken by another process.
#include "check.h"
#include <sys/socket.h>

static volatile int hits, fd_said, band;
static void on(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    fd_said = si->si_fd;
    band = si->si_band;
    hits++;
}

int main(void) {
    int p[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    handle(SIGRTMIN + 3, on, SA_RESTART);
    handle(SIGIO, on, SA_RESTART);
    OK(fcntl(p[0], F_SETOWN, getpid()));
    OK(fcntl(p[0], F_SETSIG, SIGRTMIN + 3));
    OK(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
    CHECK(fcntl(p[0], F_GETOWN) == getpid() && fcntl(p[0], F_GETSIG) == SIGRTMIN + 3);
    CHECK(write(p[1], "x", 1) == 1);
    while (!hits) usleep(200);
    CHECK(fd_said == p[0]);
    printf("notice for fd %d band %x\n", fd_said, band);
    struct f_owner_ex o;
    OK(fcntl(p[0], F_GETOWN_EX, &o));
    CHECK(o.type == F_OWNER_PID && o.pid == getpid());

    write_file("leased", "1", 1);
    int f = OK(open("leased", O_RDONLY));
    if (fcntl(f, F_SETLEASE, F_RDLCK) == -1) {
        CHECK(errno == EINVAL || errno == EAGAIN || errno == EACCES);
        SKIP("no leases here");
    }
    hits = 0;
    pid_t c = OK(fork());
    if (c == 0) {
        int w = OK(open("leased", O_WRONLY)); // blocks until the lease is given up
        write_all(w, "2", 1);
        _exit(0);
    }
    while (!hits) usleep(200);
    OK(fcntl(f, F_SETLEASE, F_UNLCK));
    wait_exit(c, 0);
    return 0;
}
