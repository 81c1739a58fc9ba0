// Anonymous mappings: addresses, hints, MAP_FIXED over the middle, MAP_FIXED_NOREPLACE, MAP_32BIT, MAP_NORESERVE giants, partial munmap.
#include "check.h"

int main(void) {
    const size_t page = 4096;
    char *m = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    for (size_t i = 0; i < 8 * page; i += 512) CHECK(m[i] == 0);
    memset(m, 'a', 8 * page);
    char *mid = mmap(m + 2 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(mid == m + 2 * page && mid[0] == 0 && m[page] == 'a' && m[3 * page] == 'a');
    CHECK(mmap(m, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    OK(munmap(m + 4 * page, page));
    char *again = mmap(m + 4 * page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == m + 4 * page && again[0] == 0);
    char *hint = mmap((void *)0x123450000000, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hint != MAP_FAILED);
    char *low = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED && (uintptr_t)low < 0x100000000);
    char *giant = mmap(NULL, (size_t)1 << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (giant != MAP_FAILED) {
        giant[(size_t)1 << 39] = 1;
        giant[((size_t)1 << 40) - 1] = 2;
        OK(munmap(giant, (size_t)1 << 40));
    }
    char *none = mmap(NULL, (size_t)1 << 36, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(none != MAP_FAILED);
    OK(mprotect(none + (1 << 30), page, PROT_READ | PROT_WRITE));
    none[1 << 30] = 3;
    char *pop = mmap(NULL, 64 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(pop != MAP_FAILED && pop[63 * page] == 0);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, page, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED && errno == EBADF);
    FAILS(munmap(m + 1, page), EINVAL);
    OK(munmap(m, 8 * page));
    OK(munmap(m, 8 * page));
    printf("%p %p %p %p %p %p\n", m, hint, low, giant, none, pop);
    return 0;
}
