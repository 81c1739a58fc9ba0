// sigaltstack: a handler runs on it, a stack overflow is survived on it, SS_AUTODISARM, threads have their own.
// cflags: -pthread
#include "check.h"
#include <setjmp.h>
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static char alt[65536] __attribute__((aligned(16)));
static volatile int on_alt, hits;
static sigjmp_buf back;

static void on(int s, siginfo_t *si, void *uc) {
    (void)s; (void)si; (void)uc;
    char here;
    hits++;
    on_alt = &here >= alt && &here < alt + sizeof alt;
    stack_t st;
    OK(sigaltstack(NULL, &st));
    if (on_alt) CHECK(st.ss_flags & SS_ONSTACK);
}

static void overflow(int s, siginfo_t *si, void *uc) {
    (void)s; (void)uc;
    char here;
    on_alt = &here >= alt && &here < alt + sizeof alt;
    printf("overflow at %p\n", si->si_addr);
    siglongjmp(back, 1);
}

__attribute__((noinline)) static int deep(int n) {
    volatile char big[4096];
    big[0] = n;
    return n < 0 ? 0 : deep(n + 1) + big[0];
}

static void disarmed(int s, siginfo_t *si, void *uc) {
    (void)s; (void)si; (void)uc;
    stack_t st;
    OK(sigaltstack(NULL, &st));
    CHECK(st.ss_flags == SS_DISABLE);
    hits++;
}

static void *thread(void *arg) {
    (void)arg;
    stack_t st;
    OK(sigaltstack(NULL, &st));
    CHECK(st.ss_flags == SS_DISABLE);
    raise(SIGUSR1);
    CHECK(!on_alt);
    return NULL;
}

int main(void) {
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt}, old;
    OK(sigaltstack(&st, NULL));
    handle(SIGUSR1, on, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK(on_alt && hits == 1);
    handle(SIGUSR2, on, 0);
    raise(SIGUSR2);
    CHECK(!on_alt && hits == 2);
    pthread_t t;
    OK0(pthread_create(&t, NULL, thread, NULL));
    OK0(pthread_join(t, NULL));

    struct rlimit r = {1 << 20, 1 << 20};
    OK(setrlimit(RLIMIT_STACK, &r));
    handle(SIGSEGV, overflow, SA_ONSTACK);
    for (int i = 0; i < 3; i++) {
        on_alt = 0;
        if (sigsetjmp(back, 1) == 0) {
            deep(0);
            CHECK(!"no overflow");
        }
        CHECK(on_alt);
    }
    st.ss_flags = SS_AUTODISARM;
    OK(sigaltstack(&st, &old));
    handle(SIGUSR1, disarmed, SA_ONSTACK);
    raise(SIGUSR1);
    OK(sigaltstack(NULL, &old));
    CHECK(old.ss_sp == alt && (old.ss_flags & SS_AUTODISARM));
    st.ss_flags = 0;
    st.ss_size = 100;
    FAILS(sigaltstack(&st, NULL), ENOMEM);
    return 0;
}
