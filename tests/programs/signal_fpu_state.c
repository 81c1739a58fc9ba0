// x87, SSE, AVX and MXCSR state survives handlers that use them, in the middle of a computation with an interval timer running.
// cflags: -lm
#include "../programs/check.h"
#include <cpuid.h>
#include <fenv.h>
#include <math.h>

static volatile int hits;
static volatile double sink;
static int avx;

__attribute__((target("avx"))) static void trash_avx(void) {
    __asm__ volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0\n vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n vmovaps %%ymm0, %%ymm7\n vmovaps %%ymm0, %%ymm15"
                     : : : "xmm0", "xmm7", "xmm15");
}

static void on(int s) {
    (void)s;
    hits++;
    fesetround(FE_UPWARD);
    sink = sin(hits) / 3.0;
    if (avx) trash_avx();
    __asm__ volatile("fninit; fldpi; fldl2e");
    __asm__ volatile("pcmpeqd %%xmm3, %%xmm3" : : : "xmm3");
}

__attribute__((target("avx"))) static int avx_kept(void) {
    unsigned char in[32], out[32];
    for (int i = 0; i < 32; i++) in[i] = i * 3;
    int before = hits;
    __asm__ volatile("vmovups %1, %%ymm7\n"
                     "1: cmp %3, %2\n je 1b\n"
                     "vmovups %%ymm7, %0\n"
                     : "=m"(out) : "m"(in), "m"(hits), "r"(before) : "xmm7", "cc");
    return memcmp(in, out, 32) == 0;
}

static double series(void) {
    double x = 0.5, t = 0;
    for (int i = 1; i < 400000; i++) {
        x = 3.7 * x * (1 - x);
        t += x / i;
    }
    return t;
}

int main(void) {
    unsigned a, b, c, d;
    avx = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_AVX) && (c & bit_OSXSAVE);
    double quiet = series();
    signal(SIGALRM, on);
    struct itimerval it = {{0, 2000}, {0, 2000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    int rounds = 0;
    while (hits < 5 && rounds < 1000) {
        CHECK(series() == quiet);
        CHECK(fegetround() == FE_TONEAREST);
        rounds++;
    }
    long double e = 1;
    int start = hits;
    __asm__ volatile("fld1\n fldpi\n faddp" : : : "st");
    while (hits == start) {}
    __asm__ volatile("fstpt %0" : "=m"(e));
    CHECK(e > 4.14 && e < 4.15);
    unsigned mx = 0, mxset = 0x7f80; // rounding toward zero and flush to zero
    unsigned old;
    __asm__ volatile("stmxcsr %0" : "=m"(old));
    __asm__ volatile("ldmxcsr %0" : : "m"(mxset));
    start = hits;
    while (hits == start) {}
    __asm__ volatile("stmxcsr %0" : "=m"(mx));
    __asm__ volatile("ldmxcsr %0" : : "m"(old));
    CHECK((mx & ~0x3f) == mxset);
    if (avx) for (int i = 0; i < 3; i++) CHECK(avx_kept());
    it = (struct itimerval){{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    printf("series %.17g, %d handlers, %d rounds, avx %d\n", quiet, hits, rounds, avx);
    return 0;
}
