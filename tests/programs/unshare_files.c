// unshare(CLONE_FILES) and close_range(CLOSE_RANGE_UNSHARE): threads whose descriptors of the same number are different files.
// cflags: -pthread
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

static int p[2], go[2], back[2];
static int by_range;

static void *other(void *arg) {
    char c;
    if (by_range) OK(syscall(SYS_close_range, 1000, 1001, 2u));
    else OK(unshare(CLONE_FILES));
    // The same number, another kind of file.
    OK(close(p[0]));
    int f = OK(open("/dev/zero", O_RDONLY));
    CHECK(f == p[0]);
    char b[16];
    for (int i = 0; i < 50; i++) {
        CHECK(read(go[0], &c, 1) == 1);
        memset(b, 1, sizeof b);
        CHECK(read(p[0], b, sizeof b) == sizeof b && b[0] == 0 && b[15] == 0);
        CHECK(write(back[1], &c, 1) == 1);
    }
    return arg;
}

int main(void) {
    for (by_range = 0; by_range < 2; by_range++) {
        OK(pipe(p));
        OK(pipe(go));
        OK(pipe(back));
        pthread_t t;
        OK0(pthread_create(&t, NULL, other, NULL));
        unsigned long sum = 0;
        for (int i = 0; i < 50; i++) {
            char c = 'a' + i % 26, d;
            CHECK(write(p[1], &c, 1) == 1);
            CHECK(write(go[1], &c, 1) == 1);
            CHECK(read(p[0], &d, 1) == 1 && d == c);
            CHECK(read(back[0], &d, 1) == 1 && d == c);
            sum = sum * 31 + (unsigned char)d;
        }
        OK0(pthread_join(t, NULL));
        for (int i = 0; i < 2; i++) { close(p[i]); close(go[i]); close(back[i]); }
        printf("%s: %lx\n", by_range ? "close_range" : "unshare", sum);
    }
    return 0;
}
