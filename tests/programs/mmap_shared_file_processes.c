// A file mapped shared by two processes, changed by memory, by write, by truncation and growth of either one.
#include "check.h"

int main(void) {
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600)), up[2], down[2];
    OK(ftruncate(fd, 8192));
    OK(pipe(up));
    OK(pipe(down));
    pid_t c = OK(fork());
    char b;
    if (c == 0) {
        int mine = OK(open("f", O_RDWR));
        volatile uint32_t *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, mine, 0);
        CHECK(m != MAP_FAILED);
        m[0] = noise_u32();
        write_all(up[1], "1", 1);
        CHECK(read(down[0], &b, 1) == 1);
        CHECK(m[1] == ~m[0] && m[1024] == m[0] + 1);
        uint32_t v = m[0] + 2;
        CHECK(pwrite(mine, &v, 4, 4100) == 4);
        OK(ftruncate(mine, 16384));
        v++;
        CHECK(pwrite(mine, &v, 4, 12288) == 4);
        write_all(up[1], "2", 1);
        for (int i = 0; i < 20000; i++) __atomic_add_fetch(&m[10], 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < 20000; i++) m[11]++;
        _exit(0);
    }
    volatile uint32_t *m = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    CHECK(read(up[0], &b, 1) == 1);
    uint32_t v, w;
    CHECK(pread(fd, &v, 4, 0) == 4 && v == m[0]);
    m[1] = ~v;
    w = v + 1;
    CHECK(pwrite(fd, &w, 4, 4096) == 4);
    write_all(down[1], "g", 1);
    CHECK(read(up[0], &b, 1) == 1);
    CHECK(m[1025] == v + 2 && m[3072] == v + 3);
    for (int i = 0; i < 20000; i++) __atomic_add_fetch(&m[10], 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 20000; i++) m[11]++;
    wait_exit(c, 0);
    CHECK(m[10] == 40000 && m[11] <= 40000);
    CHECK(pread(fd, &w, 4, 44) == 4 && w == m[11]);
    OK(msync((void *)m, 16384, MS_ASYNC));
    printf("value %08x plain counter %u\n", v, m[11]);
    return 0;
}
