// splice, tee and vmsplice move data between pipes, files and memory.
#include "check.h"

int main(void) {
    char data[9000], back[9000];
    CHECK(getrandom(data, 128, 0) == 128);
    for (size_t i = 128; i < sizeof data; i++) data[i] = data[i - 128] + 1;
    write_file("src", data, sizeof data);
    int in = OK(open("src", O_RDONLY)), out = OK(open("dst", O_RDWR | O_CREAT, 0600));
    int p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    size_t moved = 0;
    while (moved < sizeof data) moved += OK(splice(in, NULL, p[1], NULL, sizeof data - moved, 0));
    CHECK(tee(p[0], q[1], 5000, 0) == 5000);
    loff_t off = 10;
    size_t left = sizeof data;
    while (left) left -= OK(splice(p[0], NULL, out, &off, left, SPLICE_F_MOVE));
    CHECK(off == 10 + sizeof data);
    CHECK(pread(out, back, sizeof back, 10) == sizeof back && memcmp(back, data, sizeof data) == 0);
    CHECK(read_all(q[0], back, 5000) == 5000 && memcmp(back, data, 5000) == 0);

    struct iovec v[2] = {{data, 3000}, {data + 3000, 1000}};
    CHECK(vmsplice(p[1], v, 2, 0) == 4000);
    CHECK(read_all(p[0], back, 4000) == 4000 && memcmp(back, data, 4000) == 0);
    write_all(p[1], "abc", 3);
    struct iovec w = {back, 100};
    CHECK(vmsplice(p[0], &w, 1, 0) == 3 && memcmp(back, "abc", 3) == 0);
    FAILS(splice(p[0], NULL, out, NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
    FAILS(splice(in, NULL, out, NULL, 10, 0), EINVAL);
    FAILS(tee(p[0], p[1], 10, 0), EINVAL);
    printf("hash %08x\n", hash_bytes(data, sizeof data));
    return 0;
}
