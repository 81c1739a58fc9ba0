// poll and select on pipes, files and bad descriptors: readiness, hang-up, time-outs and what select leaves of them.
#include "check.h"
#include <poll.h>
#include <sys/select.h>

int main(void) {
    int p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    write_file("f", "1", 1);
    int f = OK(open("f", O_RDONLY));
    struct pollfd v[5] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {f, POLLIN | POLLOUT, 0}, {999, POLLIN, 0}, {-5, POLLIN, 7}};
    CHECK(poll(v, 5, 0) == 3);
    CHECK(v[0].revents == 0 && v[1].revents == POLLOUT && v[2].revents == (POLLIN | POLLOUT) && v[3].revents == POLLNVAL && v[4].revents == 0);
    write_all(p[1], "x", 1);
    OK(close(p[1]));
    CHECK(poll(v, 1, -1) == 1 && v[0].revents == (POLLIN | POLLHUP));
    OK(close(q[0]));
    v[0] = (struct pollfd){q[1], POLLOUT, 0};
    CHECK(poll(v, 1, 0) == 1 && (v[0].revents & POLLERR));
    int64_t t = now_ns();
    CHECK(poll(NULL, 0, 15) == 0);
    CHECK(now_ns() - t >= 15000000);

    int r[2];
    OK(pipe(r));
    int high = OK(fcntl(r[0], F_DUPFD, 500));
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(high, &in);
    FD_SET(r[1], &out);
    struct timeval tv = {0, 20000};
    CHECK(select(high + 1, &in, &out, NULL, &tv) == 1 && !FD_ISSET(high, &in) && FD_ISSET(r[1], &out));
    printf("left %ld\n", (long)tv.tv_usec);
    tv = (struct timeval){0, 10000};
    FD_ZERO(&in);
    FD_SET(high, &in);
    CHECK(select(high + 1, &in, NULL, NULL, &tv) == 0 && tv.tv_sec == 0 && tv.tv_usec == 0);
    pid_t c = OK(fork());
    if (c == 0) {
        sleep_us(10000);
        write_all(r[1], "y", 1);
        _exit(0);
    }
    FD_ZERO(&in);
    FD_SET(high, &in);
    tv = (struct timeval){5, 0};
    CHECK(select(high + 1, &in, NULL, NULL, &tv) == 1 && FD_ISSET(high, &in));
    CHECK(tv.tv_sec == 4);
    printf("left %ld.%06ld\n", (long)tv.tv_sec, (long)tv.tv_usec);
    wait_exit(c, 0);
    FD_ZERO(&in);
    int z = OK(dup(f));
    OK(close(z));
    FD_SET(z, &in);
    FAILS(select(z + 1, &in, NULL, NULL, &tv), EBADF);
    FAILS(select(-1, NULL, NULL, NULL, &tv), EINVAL);
    return 0;
}
