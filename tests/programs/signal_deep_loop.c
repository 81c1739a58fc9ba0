// A signal stops a computation deep inside calls that are all alike: what tells one from the next is a counter of a function far up,
// on the stack first, then in memory that only its code names.
// timeout: 30
#include "check.h"

static volatile sig_atomic_t stop;
static void on(int s) {
    (void)s;
    stop = 1;
}

static unsigned char data[256];
static struct {
    char before[8192];
    volatile unsigned long count;
    char behind[8192];
} far_away;

__attribute__((noinline, aligned(1024))) static unsigned inner(const unsigned char *p, int n) {
    unsigned sum = 0;
    for (int k = 0; k < 10; k++)
        for (int i = 0; i < n; i++) sum += p[i] * (unsigned)(i + k);
    return sum;
}

#define LEVEL(name, next) \
    __attribute__((noinline, aligned(1024))) static unsigned name(const unsigned char *p, int n) { \
        volatile char frame[120]; \
        frame[0] = 1; \
        unsigned sum = next(p, n); \
        return sum + (unsigned char)frame[0]; \
    }
LEVEL(level1, inner)
LEVEL(level2, level1)
LEVEL(level3, level2)
LEVEL(level4, level3)

__attribute__((noinline, aligned(1024))) static unsigned long on_stack(void) {
    volatile unsigned long count = 0;
    while (!stop) {
        level4(data, 200);
        count++;
    }
    return count;
}

__attribute__((noinline, aligned(1024))) static unsigned long in_memory(void) {
    while (!stop) {
        level4(data, 200);
        far_away.count++;
    }
    return far_away.count;
}

int main(void) {
    signal(SIGALRM, on);
    struct itimerval t = {{0, 0}, {0, 300000}};
    OK(setitimer(ITIMER_REAL, &t, NULL));
    printf("on the stack: %lu\n", on_stack());
    stop = 0;
    OK(setitimer(ITIMER_REAL, &t, NULL));
    printf("in memory: %lu\n", in_memory());
    return 0;
}
