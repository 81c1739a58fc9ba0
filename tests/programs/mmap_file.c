// File mappings: private (copy on write), shared written through memory and msync, and changed by write() of the same process.
#include "check.h"

int main(void) {
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
    char data[12288];
    for (size_t i = 0; i < sizeof data; i++) data[i] = i % 251;
    uint32_t r = noise_u32();
    memcpy(data + 100, &r, 4);
    write_all(fd, data, sizeof data);
    char *priv = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *shared = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *tail = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 8192);
    CHECK(priv != MAP_FAILED && shared != MAP_FAILED && tail != MAP_FAILED);
    CHECK(memcmp(priv, data, sizeof data) == 0 && memcmp(shared, data, sizeof data) == 0 && tail[5] == data[8197]);
    priv[0] = 'P';
    char b[8];
    CHECK(pread(fd, b, 1, 0) == 1 && b[0] == data[0] && shared[0] == data[0]);
    shared[1] = 'S';
    CHECK(pread(fd, b, 2, 0) == 2 && b[1] == 'S');
    OK(msync(shared, 12288, MS_SYNC));
    CHECK(pwrite(fd, "WWWW", 4, 4096) == 4);
    CHECK(memcmp(shared + 4096, "WWWW", 4) == 0);
    CHECK(memcmp(priv + 4096, "WWWW", 4) == 0); // not yet copied, so it follows
    CHECK(pwrite(fd, "Q", 1, 0) == 1 && priv[0] == 'P' && shared[0] == 'Q');
    int other = OK(open("f", O_RDWR));
    CHECK(pwrite(other, "tail", 4, 8192) == 4 && memcmp(tail, "tail", 4) == 0);
    pid_t child = OK(fork());
    if (child == 0) {
        shared[200] = 'C';
        priv[200] = 'C';
        CHECK(pwrite(other, "child", 5, 9000) == 5);
        _exit(0);
    }
    wait_exit(child, 0);
    CHECK(shared[200] == 'C' && priv[200] == data[200] && memcmp(tail + 808, "child", 5) == 0);
    OK(ftruncate(fd, 20000));
    CHECK(tail[4095] == data[12287]);
    OK(close(fd));
    shared[300] = 'Z';
    CHECK(pread(other, b, 1, 300) == 1 && b[0] == 'Z');
    int ro = OK(open("f", O_RDONLY));
    CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 100) == MAP_FAILED && errno == EINVAL);
    FAILS(msync((char *)1, 1, MS_SYNC), EINVAL);
    printf("%p %p %p value %08x\n", priv, shared, tail, *(uint32_t *)(shared + 100));
    return 0;
}
