// A 7 ms timer hits loops that make no call: counting in memory and in registers, two instructions, calls, recursion, string instructions, x87, the heap. Where it hits is the output.
// cflags: -O0 -lm
#include "../programs/check.h"

static volatile sig_atomic_t hits;
static volatile unsigned long seen[8];
static unsigned long counter;

static void on_alarm(int s) {
    (void)s;
    if (hits < 8) seen[hits] = counter;
    hits++;
}

static unsigned long fib(unsigned n) { counter++; return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static __attribute__((noinline)) unsigned long leaf(unsigned long x) { return x * 3 + 1; }

static void report(const char *what) {
    printf("%s:", what);
    for (int i = 0; i < 3; i++) printf(" %lu", seen[i]);
    printf("\n");
    hits = 0;
    counter = 0;
}

int main(void) {
    handle(SIGALRM, (void (*)(int, siginfo_t *, void *))on_alarm, SA_RESTART);
    struct itimerval it = {{0, 7000}, {0, 7000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));

    while (hits < 3) counter++;
    report("memory");
    for (unsigned long c = 1; hits < 3; counter = c) c = c * 6364136223846793005ul + 1;
    report("register");
    while (hits < 3) {
        unsigned long c = 1000000;
        __asm__ volatile("1: dec %0\n jnz 1b" : "+r"(c));
        counter++;
    }
    report("two instructions");
    for (unsigned long x = 1; hits < 3; counter = x) x = leaf(x);
    report("calls");
    while (hits < 3) fib(18);
    report("recursion");
    static char from[1 << 18], to[1 << 18];
    while (hits < 3) {
        void *s = from, *d = to;
        unsigned long n = sizeof from;
        from[counter % sizeof from]++;
        __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
        counter++;
    }
    report("string");
    double x = 1;
    while (hits < 3) {
        for (int i = 0; i < 1000; i++) __asm__ volatile("mulsd %1, %0" : "+x"(x) : "x"(1.0000001));
        counter++;
    }
    report("vector register");
    long double y = 1;
    while (hits < 3) { y = y * 1.0000001L + 1 / y; counter++; }
    report("x87");
    static float a[2048], b[2048];
    while (hits < 3) {
        for (int i = 0; i < 2048; i++) b[i] = b[i] * 0.5f + a[i] + i;
        counter++;
    }
    report("array");
    void *p[64] = {0};
    while (hits < 3) {
        int i = counter % 64;
        free(p[i]);
        p[i] = malloc(16 + counter % 1000);
        memset(p[i], 1, 16);
        counter++;
    }
    report("heap");
    printf("%g %Lg %g\n", x, y, b[7]);
    return 0;
}
