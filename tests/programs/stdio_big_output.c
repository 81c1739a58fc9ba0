// 3 MB to standard output and 200 KB to standard error in pieces from 1 byte to 100 KB, from two processes taking turns.
#include "check.h"

int main(void) {
    static char buf[100000];
    uint32_t s = noise_u32();
    for (int i = 0; i < 60; i++) {
        s = s * 1664525 + 1013904223;
        size_t n = s % sizeof buf + 1;
        for (size_t k = 0; k < n; k++) buf[k] = k % 64 == 63 ? '\n' : 'a' + (s >> (k % 24)) % 26;
        if (i % 10 == 9) {
            pid_t c = OK(fork());
            if (c == 0) {
                write_all(1, buf, n);
                _exit(0);
            }
            wait_exit(c, 0);
        } else write_all(1, buf, n);
        if (i % 15 == 0) write_all(2, buf, n / 4);
        write_all(1, "\n", 1);
    }
    return 0;
}
