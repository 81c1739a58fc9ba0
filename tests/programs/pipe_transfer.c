// 8 MB through a chain of three processes in pieces of odd sizes; every reader checks the bytes.
#include "check.h"

enum { TOTAL = 8 << 20 };

static void step(uint32_t *s) { *s = *s * 1664525 + 1013904223; }

int main(void) {
    int a[2], b[2];
    OK(pipe(a));
    OK(pipe(b));
    uint32_t seed = noise_u32();
    pid_t source = OK(fork());
    if (source == 0) {
        static unsigned char buf[100000];
        uint32_t s = seed, sizes = noise_u32();
        size_t sent = 0;
        while (sent < TOTAL) {
            step(&sizes);
            size_t n = sizes % sizeof buf + 1;
            if (n > TOTAL - sent) n = TOTAL - sent;
            for (size_t i = 0; i < n; i++) { step(&s); buf[i] = s >> 24; }
            write_all(a[1], buf, n);
            sent += n;
        }
        _exit(0);
    }
    pid_t middle = OK(fork());
    if (middle == 0) {
        OK(close(a[1]));
        static char buf[33333];
        ssize_t n;
        int reads = 0;
        while ((n = OK(read(a[0], buf, sizeof buf))) > 0) {
            write_all(b[1], buf, n);
            reads++;
        }
        printf("middle read %d times\n", reads);
        _exit(0);
    }
    OK(close(a[0]));
    OK(close(a[1]));
    OK(close(b[1]));
    static unsigned char buf[50001];
    size_t got = 0;
    uint32_t s = seed, sizes = 0;
    ssize_t n;
    while ((n = OK(read(b[0], buf, sizeof buf))) > 0) {
        for (ssize_t i = 0; i < n; i++) { step(&s); CHECK(buf[i] == s >> 24); }
        got += n;
        sizes = sizes * 31 + n;
    }
    CHECK(got == TOTAL);
    wait_exit(source, 0);
    wait_exit(middle, 0);
    printf("seed %08x sizes of the reads %08x\n", seed, sizes);
    return 0;
}
