// mprotect and madvise that fail in the middle of their range: what lies before is changed. MADV_FREE of
// a file's pages is refused, and changes nothing.
#include "check.h"
#include <setjmp.h>

static sigjmp_buf away;
static void handler(int sig) { siglongjmp(away, sig); }

static int can_write(volatile char *at) {
    if (sigsetjmp(away, 1)) return 0;
    *at = 4;
    return 1;
}

// Three pages, the one in the middle unmapped.
static char *with_hole(void) {
    char *p = OK(mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    p[0] = 1;
    p[8192] = 2;
    OK(munmap(p + 4096, 4096));
    return p;
}

int main(void) {
    signal(SIGSEGV, handler);
    char *p = with_hole();
    FAILS(mprotect(p, 3 * 4096, PROT_READ), ENOMEM);
    CHECK(!can_write(p) && can_write(p + 8192));
    OK(mprotect(p, 4096, PROT_READ | PROT_WRITE));
    FAILS(madvise(p, 3 * 4096, MADV_DONTNEED), ENOMEM);
    CHECK(p[0] == 0 && p[8192] == 0);
    int fd = OK(open("file", O_RDWR | O_CREAT, 0600)), readable = OK(open("file", O_RDONLY));
    OK(ftruncate(fd, 8192));
    p = OK(mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    OK(mmap(p + 4096, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, readable, 0));
    FAILS(mprotect(p, 8192, PROT_READ | PROT_WRITE), EACCES);
    CHECK(can_write(p) && !can_write(p + 4096));
    uint32_t r = noise_u32();
    p = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    memcpy(p, &r, 4);
    FAILS(madvise(p, 8192, MADV_FREE), EINVAL);
    CHECK(memcmp(p, &r, 4) == 0);
    p = with_hole();
    FAILS(madvise(p, 3 * 4096, MADV_FREE), ENOMEM);
    noise("end");
    return 0;
}
