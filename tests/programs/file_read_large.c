// Single reads of more than 1 MiB, that fill their buffer or not, right after calls of other kinds.
#include "check.h"

enum { SIZE = 5 << 20 };
static unsigned char content[SIZE], got[SIZE];

static void read_at(int fd, off_t at, size_t len) {
    memset(got, 0, sizeof got);
    ssize_t n = OK(pread(fd, got, len, at));
    CHECK(n == (ssize_t)len || n == SIZE - at);
    CHECK(memcmp(got, content + at, n) == 0);
}

int main(void) {
    for (size_t i = 0; i < SIZE; i += 256) CHECK(getrandom(content + i, 256, 0) == 256);
    int fd = OK(open("big", O_RDWR | O_CREAT | O_TRUNC, 0600));
    CHECK(write(fd, content, SIZE) == SIZE);
    size_t lengths[] = {1000, 1 << 20, (1 << 20) + 1, 1500000, 2 << 20, SIZE, SIZE};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        OK(lseek(fd, 0, SEEK_SET));
        CHECK(read(fd, got, lengths[i]) == (ssize_t)lengths[i]);
        CHECK(memcmp(got, content, lengths[i]) == 0);
        for (off_t at = 0; at < SIZE; at += 1 << 20) read_at(fd, at + 5, lengths[i]);
        // A call that the engine answers, then one with much output.
        void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED);
        read_at(fd, 1, lengths[i]);
        OK(munmap(p, 4096));
        read_at(fd, 7, lengths[i]);
        noise("round");
    }
    OK(close(fd));
    return 0;
}
