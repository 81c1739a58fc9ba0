// mremap: grow in place or moved, shrink, fixed target, DONTUNMAP, of file mappings too.
#include "check.h"

int main(void) {
    const size_t page = 4096;
    char *m = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    uint32_t r = noise_u32();
    memcpy(m + page, &r, 4);
    char *g = mremap(m, 2 * page, 600 * page, MREMAP_MAYMOVE);
    CHECK(g != MAP_FAILED && memcmp(g + page, &r, 4) == 0 && g[599 * page] == 0);
    g[599 * page] = 1;
    CHECK(mremap(g, 600 * page, 3 * page, 0) == g);
    CHECK(mincore(g + 3 * page, page, (unsigned char *)&r) == -1 && errno == ENOMEM);
    r = *(uint32_t *)(g + page);
    char *target = mmap(NULL, 10 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *f = mremap(g, 3 * page, 5 * page, MREMAP_MAYMOVE | MREMAP_FIXED, target + page);
    CHECK(f == target + page && memcmp(f + page, &r, 4) == 0);
    char *wall = mmap(f + 5 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(wall == f + 5 * page);
    CHECK(mremap(f, 5 * page, 6 * page, 0) == MAP_FAILED && errno == ENOMEM);
    char *d = mremap(f, 5 * page, 5 * page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (d != MAP_FAILED) CHECK(memcmp(d + page, &r, 4) == 0 && f[page] == 0);
    else CHECK(errno == EINVAL);
    write_file("file", "0123456789", 10);
    int fd = OK(open("file", O_RDWR));
    OK(ftruncate(fd, 4 * page));
    char *s = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(s != MAP_FAILED);
    s = mremap(s, page, 4 * page, MREMAP_MAYMOVE);
    CHECK(s != MAP_FAILED && memcmp(s, "0123456789", 10) == 0);
    s[3 * page] = 'e';
    char c;
    CHECK(pread(fd, &c, 1, 3 * page) == 1 && c == 'e');
    CHECK(mremap(s + 1, page, page, 0) == MAP_FAILED && errno == EINVAL);
    printf("%p %p %p %p %p value %08x\n", m, g, f, d, s, r);
    return 0;
}
