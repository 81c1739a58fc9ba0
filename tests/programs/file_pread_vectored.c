// Positional and vectored reads and writes, among them preadv2 and pwritev2 with flags; the file offset moves only when it should.
#include "check.h"

int main(void) {
    int fd = OK(open("v", O_RDWR | O_CREAT, 0600));
    uint32_t r[4] = {noise_u32(), noise_u32(), noise_u32(), noise_u32()};
    struct iovec w[4] = {{&r[0], 4}, {&r[1], 0}, {&r[2], 4}, {&r[3], 4}};
    CHECK(writev(fd, w, 4) == 12);
    CHECK(pwrite(fd, &r[1], 4, 100) == 4);
    CHECK(lseek(fd, 0, SEEK_CUR) == 12);
    uint32_t a = 0, b = 0, c = 0;
    struct iovec v[3] = {{&a, 4}, {&b, 4}, {&c, 4}};
    CHECK(preadv(fd, v, 3, 0) == 12 && a == r[0] && b == r[2] && c == r[3]);
    CHECK(lseek(fd, 0, SEEK_CUR) == 12);
    CHECK(pread(fd, &a, 4, 100) == 4 && a == r[1]);
    CHECK(pread(fd, &a, 4, 102) == 2);
    CHECK(pread(fd, &a, 4, 104) == 0);
    FAILS(pread(fd, &a, 4, -1), EINVAL);

    OK(lseek(fd, 4, SEEK_SET));
    char big[64] = {1};
    struct iovec u[2] = {{&b, 2}, {big, sizeof big}};
    CHECK(readv(fd, u, 2) == 66);
    CHECK(lseek(fd, 0, SEEK_CUR) == 70 && big[10] == 0);

    CHECK(preadv2(fd, v, 2, 0, 0) == 8);
    CHECK(lseek(fd, 4, SEEK_SET) == 4);
    CHECK(preadv2(fd, v, 1, -1, 0) == 4 && a == r[2]);
    CHECK(lseek(fd, 0, SEEK_CUR) == 8);
    CHECK(pwritev2(fd, w, 1, 0, RWF_APPEND) == 4);
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(st.st_size == 108);
    CHECK(pwritev2(fd, w, 1, 0, RWF_DSYNC) == 4);
    ssize_t nw = preadv2(fd, v, 1, 0, RWF_NOWAIT);
    CHECK(nw == 4 || (nw == -1 && (errno == EAGAIN || errno == EOPNOTSUPP)));
    FAILS(readv(fd, v, -1), EINVAL);
    FAILS(pwritev2(fd, w, 1, 0, 1 << 30), EOPNOTSUPP);

    // A bad buffer in the middle ends the transfer there, or fails it.
    v[1].iov_base = (void *)16;
    ssize_t part = preadv(fd, v, 2, 0);
    CHECK(part == 4 || (part == -1 && errno == EFAULT));
    FAILS(read(fd, (void *)16, 4), EFAULT);
    printf("values %08x %08x %08x %08x hash %08x\n", r[0], r[1], r[2], r[3], hash_bytes(big, sizeof big));
    return 0;
}
