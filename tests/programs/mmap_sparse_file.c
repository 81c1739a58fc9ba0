// A file of 100 GiB that is nearly all holes, mapped: written through the mapping, a hole punched, the
// file synchronised, cut and made longer while it is mapped.
#include "check.h"

int main(void) {
    const off_t size = (off_t)100 << 30;
    int fd = OK(open("big", O_RDWR | O_CREAT | O_TRUNC, 0600));
    OK(unlink("big"));
    if (pwrite(fd, "x", 1, size) != 1) SKIP("files cannot be that long");
    uint32_t r = noise_u32();
    char *p = OK(mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    p[size / 2] = 1;
    memcpy(p + size / 2 + 65536, &r, 4);
    OK(fsync(fd));
    OK(fchmod(fd, 0640));
    OK(munmap(p, size + 1));
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size / 2, 4096));
    p = OK(mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHECK(p[size / 2] == 0 && p[size] == 'x' && memcmp(p + size / 2 + 65536, &r, 4) == 0);
    p[8192] = 1;
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096));
    CHECK(p[8192] == 0);
    memset(p + 4096, 7, 4096);
    OK(ftruncate(fd, 5000));
    OK(ftruncate(fd, 9000));
    OK(fallocate(fd, 0, 0, 100000));
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(p[4999] == 7 && p[5000] == 0 && p[8191] == 0 && p[99999] == 0 && st.st_size == 100000);
    printf("value %08x\n", r);
    return 0;
}
