// Every clock by the vDSO and by raw calls, resolutions, gettimeofday, time, monotonic order, CPU clocks of process and thread.
#include "check.h"
#include <sys/timex.h>

int main(void) {
    static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
        CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
    for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct timespec a, b, c, r;
        OK(clock_gettime(ids[i], &a));
        OK(syscall(SYS_clock_gettime, ids[i], &b));
        OK(clock_gettime(ids[i], &c));
        CHECK(a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec <= b.tv_nsec));
        CHECK(b.tv_sec < c.tv_sec || (b.tv_sec == c.tv_sec && b.tv_nsec <= c.tv_nsec));
        OK(clock_getres(ids[i], &r));
        printf("clock %d: %lld.%09ld raw %09ld resolution %ld\n", ids[i], (long long)a.tv_sec, a.tv_nsec, b.tv_nsec, r.tv_nsec);
    }
    struct timespec t;
    FAILS(clock_gettime(77, &t), EINVAL);
    FAILS(clock_settime(CLOCK_MONOTONIC, &t), EINVAL);
    int64_t last = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t n = now_ns();
        CHECK(n >= last);
        last = n;
    }
    struct timeval tv;
    OK(gettimeofday(&tv, NULL));
    OK(gettimeofday(NULL, NULL));
    time_t s = time(NULL), s2;
    CHECK(time(&s2) == s2 && s2 >= s && s2 - tv.tv_sec < 100);
    OK(syscall(SYS_gettimeofday, &tv, NULL));
    CHECK(syscall(SYS_time, &s2) == s2);
    clockid_t id;
    OK0(clock_getcpuclockid(getpid(), &id));
    OK(clock_gettime(id, &t));
    struct timex tx = {0};
    CHECK(adjtimex(&tx) >= 0);
    char text[64];
    struct tm *l = localtime(&s);
    strftime(text, sizeof text, "%F %T %Z", l);
    printf("%s cpu %ld.%09ld\n", text, (long)t.tv_sec, t.tv_nsec);
    return 0;
}
