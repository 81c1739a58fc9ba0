// mincore over memory that ends in a hole: it fails, and has told of the pages before the hole all the same.
#include "check.h"

#define PAGES 8
#define MAPPED 5

int main(void) {
    char *map = OK(mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memset(map, 1, PAGES * 4096);
    OK(munmap(map + MAPPED * 4096, (PAGES - MAPPED) * 4096));
    for (int round = 0; round < 10; round++) {
        unsigned char told[PAGES];
        memset(told, 8, sizeof told);
        FAILS(mincore(map, PAGES * 4096, told), ENOMEM);
        for (int i = 0; i < PAGES; i++)
            printf("%d%c", told[i], i + 1 < PAGES ? ' ' : '\n');
        FAILS(mincore(map + 1, 4096, told), EINVAL);
        FAILS(mincore(map, MAPPED * 4096, (unsigned char *)8), EFAULT);
        OK(mincore(map, MAPPED * 4096, told));
        CHECK(told[MAPPED - 1] & 1);
    }
    return 0;
}
