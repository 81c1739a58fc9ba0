// Non-blocking pipes (EAGAIN both ways, partial writes) and O_DIRECT packet mode.
#include "check.h"

int main(void) {
    int p[2];
    OK(pipe2(p, O_NONBLOCK));
    char buf[70000];
    FAILS(read(p[0], buf, 1), EAGAIN);
    memset(buf, 'q', sizeof buf);
    size_t total = 0;
    ssize_t n;
    while ((n = write(p[1], buf, 8192)) > 0) total += n;
    CHECK(n == -1 && errno == EAGAIN);
    CHECK(total == (size_t)fcntl(p[0], F_GETPIPE_SZ));
    FAILS(write(p[1], buf, 100), EAGAIN);
    CHECK(read(p[0], buf, 4096) == 4096);
    CHECK(write(p[1], buf, 10000) == 4096);
    OK(fcntl(p[0], F_SETFL, 0));
    OK(close(p[1]));
    CHECK(read_all(p[0], buf, sizeof buf) == total);
    OK(close(p[0]));

    OK(pipe2(p, O_DIRECT));
    uint32_t r = noise_u32();
    write_all(p[1], &r, 4);
    write_all(p[1], "12345678", 8);
    CHECK(read(p[0], buf, 100) == 4 && memcmp(buf, &r, 4) == 0);
    CHECK(read(p[0], buf, 3) == 3); // the rest of the packet is lost
    write_all(p[1], "end", 3);
    CHECK(read(p[0], buf, 100) == 3 && memcmp(buf, "end", 3) == 0);
    printf("capacity %zu value %08x\n", total, r);
    return 0;
}
