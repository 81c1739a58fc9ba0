// A program that uses gs itself: arch_prctl ARCH_SET_GS and GET, in threads too, over system calls and signals; FS base read.
// cflags: -pthread
#include "check.h"
#include <asm/prctl.h>

static volatile int hits;
static uint64_t area[4][2];

static uint64_t gs0(void) {
    uint64_t v;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    return v;
}

static void on(int s) {
    (void)s;
    CHECK(gs0() != 0);
    hits++;
}

static void *work(void *arg) {
    long me = (long)arg;
    area[me][0] = (uint64_t)noise_u32() << 8 | me | 1ull << 60;
    OK(syscall(SYS_arch_prctl, ARCH_SET_GS, area[me]));
    for (int i = 0; i < 200; i++) {
        CHECK(gs0() == area[me][0]);
        if (i % 10 == 0) syscall(SYS_getppid);
        if (i % 20 == 0) sched_yield();
        if (i % 50 == 0) raise(SIGUSR1);
    }
    unsigned long base = 0;
    OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
    CHECK(base == (uintptr_t)area[me]);
    OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0));
    return NULL;
}

int main(void) {
    unsigned long fs = 0, self, gs = 1;
    OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    __asm__("mov %%fs:0, %0" : "=r"(self));
    CHECK(fs == self);
    OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
    CHECK(gs == 0);
    signal(SIGUSR1, on);
    pthread_t t[3];
    for (long i = 1; i < 4; i++) OK0(pthread_create(&t[i - 1], NULL, work, (void *)i));
    work((void *)0);
    for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
    CHECK(hits == 16);
    FAILS(syscall(SYS_arch_prctl, 0x7777, 0), EINVAL);
    printf("fs base %lx\n", fs);
    return 0;
}
