// prctl: name, dumpable, keep-caps, no-new-privs, timer slack, child subreaper, anonymous memory names, TSC mode, seccomp mode, errors.
#include "check.h"
#include <sys/prctl.h>
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

int main(void) {
    char name[17] = "";
    char want[16];
    snprintf(want, sizeof want, "n%08x", noise_u32());
    OK(prctl(PR_SET_NAME, want));
    OK(prctl(PR_GET_NAME, name));
    CHECK(strcmp(name, want) == 0);
    OK(prctl(PR_SET_NAME, "a name that is much too long"));
    OK(prctl(PR_GET_NAME, name));
    CHECK(strcmp(name, "a name that is ") == 0);
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    OK(prctl(PR_SET_DUMPABLE, 0));
    CHECK(prctl(PR_GET_DUMPABLE) == 0);
    OK(prctl(PR_SET_DUMPABLE, 1));
    OK(prctl(PR_SET_KEEPCAPS, 1));
    CHECK(prctl(PR_GET_KEEPCAPS) == 1);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) >= 0);
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    FAILS(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    OK(prctl(PR_SET_TIMERSLACK, 12345));
    CHECK(prctl(PR_GET_TIMERSLACK) == 12345);
    int sub = -1;
    OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    OK(prctl(PR_GET_CHILD_SUBREAPER, &sub));
    CHECK(sub == 1);
    int tsc = 0;
    OK(prctl(PR_GET_TSC, &tsc));
    CHECK(tsc == PR_TSC_ENABLE);
    CHECK(prctl(PR_GET_SECCOMP) == 0);
    void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int vma = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, m, 4096, "scribe test");
    CHECK(vma == 0 || errno == EINVAL);
    CHECK(prctl(PR_CAPBSET_READ, 0) >= 0);
    int thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    CHECK(thp >= 0);
    FAILS(prctl(987654), EINVAL);
    unsigned long auxv[100];
    int n = prctl(0x41555856 /* PR_GET_AUXV */, auxv, sizeof auxv, 0, 0);
    CHECK(n > 0 || errno == EINVAL);
    printf("%s vma %d\n", want, vma);
    return 0;
}
