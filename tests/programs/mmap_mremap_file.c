// mremap that makes the mapping of a file longer: private, shared, and duplicated. What was written to the
// file before comes into view.
#include "check.h"

int main(void) {
    uint32_t r = noise_u32(), got;
    int fd = OK(open("file", O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 70000));
    CHECK(pwrite(fd, &r, 4, 40000) == 4 && pwrite(fd, &r, 4, 69996) == 4);
    char *p = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    p[1] = 5;
    p = OK(mremap(p, 8192, 65536, MREMAP_MAYMOVE));
    CHECK(p[1] == 5 && memcmp(p + 40000, &r, 4) == 0);
    p[40000] ^= 1;
    char *shared = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 36864));
    memcpy(&got, shared + 40000 - 36864, 4);
    printf("at 40000: %08x\n", got);
    // Longer than the file is.
    shared = OK(mremap(shared, 4096, 65536, MREMAP_MAYMOVE));
    CHECK(memcmp(shared + 69996 - 36864, &r, 4) == 0 && shared[50000 - 36864] == 0);
    shared[50000 - 36864] = 9;
    char *twice = OK(mremap(shared, 0, 65536, MREMAP_MAYMOVE));
    CHECK(twice[50000 - 36864] == 9 && pread(fd, &got, 4, 49999) == 4);
    twice[1] = 3;
    CHECK(shared[1] == 3);
    printf("at 49999: %08x\n", got);
    return 0;
}
