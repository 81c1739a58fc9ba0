// POSIX timers: by signal with a value, by thread, without notice, absolute, overrun, per-process CPU clock, deletion.
// cflags: -pthread -lrt
#include "../programs/check.h"

static volatile int hits, value, thread_hits;
static void on(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    CHECK(si->si_code == SI_TIMER);
    value = si->si_value.sival_int;
    hits++;
}
static void in_thread(union sigval v) {
    CHECK(v.sival_int == 9);
    __atomic_add_fetch(&thread_hits, 1, __ATOMIC_SEQ_CST);
}

int main(void) {
    handle(SIGRTMIN, on, SA_RESTART);
    timer_t t;
    int token = noise_u32() & 0xffffff;
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = token};
    OK(timer_create(CLOCK_MONOTONIC, &se, &t));
    struct itimerspec it = {{0, 3000000}, {0, 2000000}}, now;
    OK(timer_settime(t, 0, &it, NULL));
    while (hits < 3) pause();
    CHECK(value == token);
    OK(timer_gettime(t, &now));
    CHECK(now.it_interval.tv_nsec == 3000000);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    sleep_us(30000);
    siginfo_t si;
    CHECK(sigwaitinfo(&set, &si) == SIGRTMIN);
    int over = timer_getoverrun(t);
    CHECK(over >= 1);
    OK(timer_delete(t));
    struct timespec zero = {0, 0};
    while (sigtimedwait(&set, &si, &zero) > 0) {}
    FAILS(timer_delete(t), EINVAL);

    struct sigevent th = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 9, .sigev_notify_function = in_thread};
    OK(timer_create(CLOCK_REALTIME, &th, &t));
    it = (struct itimerspec){{0, 0}, {0, 2000000}};
    OK(timer_settime(t, 0, &it, NULL));
    while (!thread_hits) usleep(500);
    OK(timer_delete(t));

    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    OK(timer_create(CLOCK_MONOTONIC, &none, &t));
    it = (struct itimerspec){{0, 0}, {100, 0}};
    OK(timer_settime(t, 0, &it, NULL));
    OK(timer_gettime(t, &now));
    CHECK(now.it_value.tv_sec == 99 || now.it_value.tv_sec == 100);
    OK(timer_delete(t));

    OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
    hits = 0;
    OK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &se, &t));
    it = (struct itimerspec){{0, 0}, {0, 5000000}};
    OK(timer_settime(t, 0, &it, NULL));
    volatile long n = 0;
    while (!hits && n < 10000000000) n++;
    CHECK(hits == 1);
    OK(timer_delete(t));
    FAILS(timer_create(9999, &se, &t), EINVAL);
    printf("token %06x overrun %d counted %ld left %ld\n", token, over, n, now.it_value.tv_nsec);
    return 0;
}
