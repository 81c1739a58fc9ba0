// O_DIRECT: aligned transfers work or the file system refuses the flag; unaligned ones may fail.
#include "check.h"

int main(void) {
    int fd = open("d", O_RDWR | O_CREAT | O_DIRECT, 0600);
    if (fd == -1) {
        CHECK(errno == EINVAL);
        SKIP("no O_DIRECT here");
    }
    char *buf = aligned_alloc(4096, 8192);
    CHECK(buf);
    memset(buf, 7, 8192);
    uint32_t r = noise_u32();
    memcpy(buf + 4096, &r, 4);
    CHECK(write(fd, buf, 8192) == 8192);
    memset(buf, 0, 8192);
    CHECK(pread(fd, buf, 8192, 0) == 8192);
    CHECK(buf[0] == 7 && memcmp(buf + 4096, &r, 4) == 0);
    ssize_t odd = pread(fd, buf + 1, 100, 3);
    CHECK(odd == 100 || (odd == -1 && errno == EINVAL));
    CHECK(pread(fd, buf, 8192, 4096) == 4096);
    printf("random %08x unaligned %zd buffer %p\n", r, odd, buf);
    return 0;
}
