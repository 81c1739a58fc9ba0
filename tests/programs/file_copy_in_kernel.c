// copy_file_range and sendfile: contents, moved and explicit offsets, short counts at the end, sendfile to a pipe and a socket.
#include "check.h"
#include <sys/sendfile.h>
#include <sys/socket.h>

int main(void) {
    char data[20000], back[20000];
    CHECK(getrandom(data, 256, 0) == 256);
    for (size_t i = 256; i < sizeof data; i++) data[i] = data[i % 256] + i / 256;
    write_file("src", data, sizeof data);
    int in = OK(open("src", O_RDONLY)), out = OK(open("dst", O_RDWR | O_CREAT, 0600));

    loff_t off_in = 100, off_out = 0;
    ssize_t n = copy_file_range(in, &off_in, out, &off_out, 5000, 0);
    if (n == -1) CHECK(errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP);
    else {
        CHECK(n == 5000 && off_in == 5100 && off_out == 5000);
        CHECK(lseek(in, 0, SEEK_CUR) == 0);
        CHECK(pread(out, back, 5000, 0) == 5000 && memcmp(back, data + 100, 5000) == 0);
        OK(lseek(in, 19000, SEEK_SET));
        CHECK(copy_file_range(in, NULL, out, NULL, 5000, 0) == 1000);
        CHECK(copy_file_range(in, NULL, out, NULL, 5000, 0) == 0);
    }
    OK(lseek(in, 0, SEEK_SET));
    OK(lseek(out, 0, SEEK_SET));
    CHECK(sendfile(out, in, NULL, 7000) == 7000);
    CHECK(lseek(in, 0, SEEK_CUR) == 7000 && lseek(out, 0, SEEK_CUR) == 7000);
    off_t off = 19990;
    CHECK(sendfile(out, in, &off, 100) == 10 && off == 20000);

    int p[2], s[2];
    OK(pipe(p));
    off = 50;
    CHECK(sendfile(p[1], in, &off, 3000) == 3000);
    CHECK(read_all(p[0], back, 3000) == 3000 && memcmp(back, data + 50, 3000) == 0);
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    off = 0;
    CHECK(sendfile(s[1], in, &off, 10000) == 10000);
    CHECK(read_all(s[0], back, 10000) == 10000 && memcmp(back, data, 10000) == 0);
    FAILS(sendfile(out, -1, NULL, 1), EBADF);
    printf("copied %zd hash %08x\n", n, hash_bytes(data, sizeof data));
    return 0;
}
