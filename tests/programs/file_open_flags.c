// open(2): creation, exclusive, truncate, append, no-follow, directory, close-on-exec, and the offset that dup shares.
#include "check.h"

int main(void) {
    FAILS(open("none", O_RDONLY), ENOENT);
    int fd = OK(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
    FAILS(open("a", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
    uint32_t r = noise_u32();
    CHECK(write(fd, &r, sizeof r) == sizeof r);
    CHECK(lseek(fd, 0, SEEK_CUR) == 4);
    int copy = OK(dup(fd));
    CHECK(lseek(copy, 1, SEEK_SET) == 1);
    CHECK(lseek(fd, 0, SEEK_CUR) == 1);
    char b[8];
    CHECK(read(fd, b, sizeof b) == 3);
    CHECK(memcmp(b, (char *)&r + 1, 3) == 0);
    CHECK(read(copy, b, sizeof b) == 0);

    int ap = OK(open("a", O_WRONLY | O_APPEND));
    CHECK(write(ap, "xy", 2) == 2);
    CHECK(lseek(ap, 0, SEEK_SET) == 0);
    CHECK(write(ap, "z", 1) == 1);
    struct stat st;
    OK(fstat(ap, &st));
    CHECK(st.st_size == 7);
    FAILS(read(ap, b, 1), EBADF);
    CHECK((fcntl(ap, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
    OK(fcntl(ap, F_SETFL, 0));
    CHECK((fcntl(ap, F_GETFL) & O_APPEND) == 0);

    OK(symlink("a", "link"));
    FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    FAILS(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open(".", O_WRONLY), EISDIR);
    int path = OK(open("link", O_PATH | O_NOFOLLOW));
    OK(fstat(path, &st));
    CHECK(S_ISLNK(st.st_mode));
    FAILS(read(path, b, 1), EBADF);

    int ce = OK(open("a", O_RDONLY | O_CLOEXEC));
    CHECK(fcntl(ce, F_GETFD) == FD_CLOEXEC);
    int d3 = OK(dup3(ce, 100, 0));
    CHECK(d3 == 100 && fcntl(d3, F_GETFD) == 0);
    CHECK(fcntl(ce, F_DUPFD_CLOEXEC, 200) == 200 && fcntl(200, F_GETFD) == FD_CLOEXEC);
    FAILS(dup3(ce, ce, 0), EINVAL);
    CHECK(dup2(ce, ce) == ce);
    OK(close_range(100, 200, 0));
    FAILS(fcntl(100, F_GETFD), EBADF);
    FAILS(close(200), EBADF);

    int tr = OK(open("a", O_RDWR | O_TRUNC));
    OK(fstat(tr, &st));
    CHECK(st.st_size == 0);
    int dir = OK(open(".", O_RDONLY | O_DIRECTORY));
    int at = OK(openat(dir, "b", O_CREAT | O_WRONLY, 0600));
    CHECK(access("b", F_OK) == 0);
    FAILS(read(dir, b, 1), EISDIR);
    int tmp = open(".", O_TMPFILE | O_RDWR, 0600);
    if (tmp != -1) {
        CHECK(write(tmp, "t", 1) == 1);
        OK(fstat(tmp, &st));
        CHECK(st.st_nlink == 0);
    }
    printf("fds %d %d %d %d %d ino %lu rand %08x\n", fd, copy, ap, tr, at, (unsigned long)st.st_ino, r);
    return 0;
}
