// truncate, ftruncate and fallocate with keep-size, punch-hole, zero-range and collapse-range.
#include "check.h"

int main(void) {
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
    char buf[8192];
    memset(buf, 'a', sizeof buf);
    for (int i = 0; i < 4; i++) write_all(fd, buf, sizeof buf);
    struct stat st;
    OK(ftruncate(fd, 10));
    OK(truncate("f", 20));
    CHECK(pread(fd, buf, 100, 0) == 20 && buf[9] == 'a' && buf[10] == 0);
    FAILS(ftruncate(fd, -1), EINVAL);
    FAILS(truncate("nothing", 1), ENOENT);
    int r = fallocate(fd, 0, 0, 65536);
    if (r == -1) {
        CHECK(errno == EOPNOTSUPP);
        SKIP("no fallocate here");
    }
    OK(fstat(fd, &st));
    CHECK(st.st_size == 65536);
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 65536, 65536));
    OK(fstat(fd, &st));
    CHECK(st.st_size == 65536);
    memset(buf, 'b', sizeof buf);
    for (int i = 0; i < 8; i++) CHECK(pwrite(fd, buf, 8192, i * 8192) == 8192);
    int punch = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 8192);
    if (punch == 0) CHECK(pread(fd, buf, 8192, 8192) == 8192 && buf[0] == 0 && buf[8191] == 0);
    int zero = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096);
    if (zero == 0) CHECK(pread(fd, buf, 8192, 0) == 8192 && buf[0] == 0 && buf[4096] == 'b');
    int collapse = fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
    OK(fstat(fd, &st));
    if (collapse == 0) CHECK(st.st_size == 65536 - 4096);
    OK(posix_fallocate(fd, 0, 100));
    CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    OK(readahead(fd, 0, 4096));
    printf("punch %d zero %d collapse %d blocks %ld ino %lu\n", punch, zero, collapse, (long)st.st_blocks,
           (unsigned long)st.st_ino);
    return 0;
}
