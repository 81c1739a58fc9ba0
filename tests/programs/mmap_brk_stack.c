// brk grows and shrinks; the stack grows by deep recursion; a MAP_GROWSDOWN mapping grows by touching.
#include "check.h"

__attribute__((noinline)) static long deep(int n) {
    volatile char frame[1000];
    frame[n % 1000] = 1;
    return n == 0 ? frame[0] : deep(n - 1) + frame[n % 1000];
}

int main(void) {
    char *start = sbrk(0);
    CHECK(start != (void *)-1);
    CHECK(sbrk(1 << 20) == start);
    start[0] = 1;
    start[(1 << 20) - 1] = 2;
    CHECK(sbrk(-(1 << 19)) == start + (1 << 20));
    CHECK(sbrk(0) == start + (1 << 19));
    CHECK(sbrk(1 << 19) == start + (1 << 19));
    CHECK(start[(1 << 20) - 1] == 0 && start[0] == 1);
    CHECK(syscall(SYS_brk, 1) == (long)(start + (1 << 20)));
    CHECK(deep(5000) == 5001);
    void *big[50];
    for (int i = 0; i < 50; i++) {
        big[i] = malloc(i * 10000 + 1);
        memset(big[i], i, i * 10000 + 1);
    }
    for (int i = 0; i < 50; i += 2) free(big[i]);
    for (int i = 1; i < 50; i += 2) CHECK(((char *)big[i])[i * 10000] == i);

    size_t page = 4096;
    char *room = mmap(NULL, 1 << 22, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(room != MAP_FAILED);
    OK(munmap(room, 1 << 22));
    char *g = mmap(room + (1 << 22) - page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    CHECK(g != MAP_FAILED);
    for (int i = 0; i < 20; i++) g[-(long)(i * page) - 1] = i;
    for (int i = 0; i < 20; i++) CHECK(g[-(long)(i * page) - 1] == i);
    printf("brk %p grown %p\n", start, g);
    return 0;
}
