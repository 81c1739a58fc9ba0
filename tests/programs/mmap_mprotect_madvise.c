// mprotect splitting a mapping; madvise DONTNEED, FREE, DONTFORK, WIPEONFORK, errors; mlock, mincore.
#include "check.h"

int main(void) {
    const size_t page = 4096;
    char *m = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    memset(m, 'x', 16 * page);
    for (int i = 0; i < 16; i += 2) OK(mprotect(m + i * page, page, PROT_READ));
    for (int i = 1; i < 16; i += 2) m[i * page] = 'y';
    int z = OK(open("/dev/zero", O_RDONLY));
    FAILS(read(z, m, 10), EFAULT);
    CHECK(read(z, m + page - 0, 10) == 10);
    CHECK(read(z, m + 2 * page - 5, 10) == 5 || errno == EFAULT);
    OK(mprotect(m, 16 * page, PROT_READ | PROT_WRITE));
    OK(madvise(m, 2 * page, MADV_DONTNEED));
    CHECK(m[0] == 0 && m[page] == 0 && m[2 * page] == 'x');
    OK(madvise(m + 4 * page, page, MADV_FREE));
    CHECK(m[4 * page] == 'x' || m[4 * page] == 0);
    m[4 * page] = 'f';
    OK(madvise(m + 6 * page, page, MADV_WIPEONFORK));
    OK(madvise(m + 7 * page, page, MADV_DONTFORK));
    int out = OK(open("out", O_CREAT | O_WRONLY, 0600));
    pid_t child = OK(fork());
    if (child == 0) {
        CHECK(m[6 * page] == 0 && m[4 * page] == 'f');
        FAILS(write(out, m + 7 * page, 1), EFAULT);
        _exit(0);
    }
    wait_exit(child, 0);
    CHECK(m[6 * page] == 'x' && m[7 * page] == 'y');
    OK(madvise(m, page, MADV_WILLNEED));
    OK(madvise(m, 16 * page, MADV_NORMAL));
    FAILS(madvise(m, page, 9999), EINVAL);
    FAILS(madvise((char *)page, page, MADV_DONTNEED), ENOMEM);
    FAILS(mprotect(m + 1, page, PROT_READ), EINVAL);
    unsigned char vec[16];
    OK(mincore(m, 16 * page, vec));
    CHECK(vec[4] & 1);
    int locked = mlock(m, 2 * page);
    CHECK(locked == 0 || errno == ENOMEM || errno == EPERM);
    OK(munlock(m, 2 * page));

    write_file("f", "abc", 3);
    int fd = OK(open("f", O_RDWR));
    char *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    p[0] = 'Z';
    OK(madvise(p, page, MADV_DONTNEED));
    CHECK(p[0] == 'a'); // the private copy is gone, the file shows again
    printf("%p locked %d incore %08x\n", m, locked, hash_bytes(vec, 16));
    return 0;
}
