// Memory protection keys: denied writes and reads fault with SEGV_PKUERR, allowed again by WRPKRU. Skipped without them.
#include "check.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile int code;
static void on(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    code = si->si_code;
    siglongjmp(back, 1);
}

int main(void) {
    int key = pkey_alloc(0, 0);
    if (key == -1) SKIP("no protection keys");
    volatile char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    OK(pkey_mprotect((void *)m, 4096, PROT_READ | PROT_WRITE, key));
    m[0] = 7;
    handle(SIGSEGV, on, 0);
    OK(pkey_set(key, PKEY_DISABLE_WRITE));
    CHECK(m[0] == 7);
    if (sigsetjmp(back, 1) == 0) { m[0] = 8; CHECK(!"no fault"); }
    CHECK(code == 4 /* SEGV_PKUERR */);
    OK(pkey_set(key, PKEY_DISABLE_ACCESS));
    code = 0;
    if (sigsetjmp(back, 1) == 0) { code = m[0]; CHECK(!"no fault"); }
    CHECK(code == 4);
    OK(pkey_set(key, 0));
    m[0] = 9;
    CHECK(m[0] == 9 && pkey_get(key) == 0);
    OK(pkey_mprotect((void *)m, 4096, PROT_READ | PROT_WRITE, 0));
    OK(pkey_free(key));
    FAILS(pkey_free(key), EINVAL);
    printf("key %d at %p\n", key, (void *)m);
    return 0;
}
