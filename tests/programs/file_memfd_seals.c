// memfd_create: growth, seals, a mapping that forbids sealing, reopening through /proc/self/fd.
#include "check.h"

int main(void) {
    char name[32];
    snprintf(name, sizeof name, "m%08x", noise_u32());
    int fd = OK(memfd_create(name, MFD_ALLOW_SEALING | MFD_CLOEXEC));
    char link[128] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    OK(readlink(path, link, sizeof link - 1));
    CHECK(strstr(link, name));
    OK(ftruncate(fd, 8192));
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    uint32_t r = noise_u32(), got = 0;
    memcpy(m + 5000, &r, 4);
    CHECK(pread(fd, &got, 4, 5000) == 4 && got == r);
    CHECK(pwrite(fd, "zz", 2, 10) == 2 && m[10] == 'z');
    FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    int again = OK(open(path, O_RDWR));
    CHECK(pread(again, &got, 4, 5000) == 4 && got == r);
    OK(munmap(m, 8192));
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
    CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
    FAILS(write(fd, "a", 1), EPERM);
    FAILS(ftruncate(fd, 1), EPERM);
    FAILS(ftruncate(fd, 1 << 20), EPERM);
    CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(m != MAP_FAILED && m[10] == 'z');
    m[10] = 'y';
    CHECK(pread(fd, &got, 1, 10) == 1 && (got & 255) == 'z');
    int plain = OK(memfd_create("plain", 0));
    FAILS(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    printf("%s value %08x mapped %p\n", link, r, m);
    return 0;
}
