// /dev/urandom, /dev/random, /dev/null, /dev/zero, /dev/full: reads, writes, mappings.
#include "check.h"
#include <sys/ioctl.h>

int main(void) {
    unsigned char a[5000], b[5000];
    int ur = OK(open("/dev/urandom", O_RDONLY));
    CHECK(read_all(ur, a, sizeof a) == sizeof a);
    CHECK(read_all(ur, b, sizeof b) == sizeof b);
    CHECK(memcmp(a, b, sizeof a));
    int rn = OK(open("/dev/random", O_RDONLY));
    CHECK(read_all(rn, b, 16) == 16);
    int nul = OK(open("/dev/null", O_RDWR));
    CHECK(read(nul, b, 10) == 0 && write(nul, a, sizeof a) == sizeof a);
    int zero = OK(open("/dev/zero", O_RDWR));
    memset(b, 1, sizeof b);
    CHECK(read(zero, b, sizeof b) == sizeof b && b[0] == 0 && b[4999] == 0);
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    CHECK(m != MAP_FAILED && m[0] == 0);
    m[0] = 1;
    char *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0);
    CHECK(s != MAP_FAILED);
    pid_t child = OK(fork());
    if (child == 0) {
        s[0] = 42;
        _exit(0);
    }
    wait_exit(child, 0);
    CHECK(s[0] == 42);
    int full = OK(open("/dev/full", O_RDWR));
    FAILS(write(full, "x", 1), ENOSPC);
    struct winsize w;
    FAILS(ioctl(nul, TIOCGWINSZ, &w), ENOTTY);
    CHECK(isatty(nul) == 0);
    printf("random %08x %08x mapped %p %p\n", hash_bytes(a, sizeof a), hash_bytes(b, 16), m, s);
    return 0;
}
