// Offsets beyond 2 and 4 GiB in a sparse file, holes found with SEEK_HOLE and SEEK_DATA.
#include "check.h"

int main(void) {
    int fd = OK(open("big", O_RDWR | O_CREAT, 0600));
    const off_t far = (off_t)5 << 30;
    uint32_t r = noise_u32(), got = 0;
    CHECK(pwrite(fd, &r, 4, far) == 4);
    CHECK(lseek(fd, 0, SEEK_END) == far + 4);
    CHECK(lseek(fd, -4, SEEK_END) == far);
    CHECK(read(fd, &got, 4) == 4 && got == r);
    CHECK(pread(fd, &got, 4, (off_t)3 << 30) == 4 && got == 0);
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(st.st_size == far + 4 && st.st_blocks < 10000);
    off_t data = lseek(fd, 0, SEEK_DATA);
    CHECK(data == 0 || (data > 0 && data <= far));
    off_t hole = OK(lseek(fd, 0, SEEK_HOLE));
    CHECK(hole == 0 || hole == far + 4);
    FAILS(lseek(fd, far + 100, SEEK_DATA), ENXIO);
    OK(ftruncate(fd, (off_t)6 << 30));
    OK(fstat(fd, &st));
    CHECK(st.st_size == (off_t)6 << 30);
    printf("value %08x blocks %ld data %lld hole %lld\n", got, (long)st.st_blocks, (long long)data, (long long)hole);
    OK(unlink("big"));
    return 0;
}
