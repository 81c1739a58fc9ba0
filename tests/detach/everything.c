// Runs for three seconds with threads in calls of many kinds, computing, in signal handlers, and with children; each checks that nothing unusual comes out of its calls. Detached from somewhere on the way, the second half runs without Scribe.
// cflags: -O1 -pthread
#include "../programs/check.h"
#include <poll.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <cpuid.h>

extern char **environ;

#define MS 1000000LL
static int64_t begin, end;
static int going(void) { return now_ns() < end; }
// Took at least this long, and not longer than a loaded machine might need.
#ifndef SLACK
#define SLACK 3000
#endif
#define TOOK(since, ms) CHECK(now_ns() - (since) >= (ms) * MS - MS / 2 && now_ns() - (since) < (ms) * MS + SLACK * MS)

static int feed[2], never[2];
// The program is going to be stopped: some calls return EINTR then, see signal(7).
static int stopped;

static void *computes(void *arg) {
    volatile unsigned long x = 1;
    while (going()) for (int i = 0; i < 200000; i++) x = x * 31 + i;
    return arg;
}

static void *sleeps(void *arg) {
    while (going()) {
        struct timespec t = {0, 20 * MS}, rest = {7, 7};
        int64_t since = now_ns();
        int r;
        while ((r = nanosleep(&t, &rest)) == -1 && errno == EINTR) t = rest;
        CHECK(r == 0);
        TOOK(since, 20);
    }
    return arg;
}

static void *polls(void *arg) {
    while (going()) {
        struct pollfd p = {.fd = never[0], .events = POLLIN, .revents = 99};
        int64_t since = now_ns();
        CHECK(poll(&p, 1, 15) == 0 && p.revents == 0);
        TOOK(since, 15);
    }
    return arg;
}

static void *epolls(void *arg) {
    int e = OK(epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN};
    OK(epoll_ctl(e, EPOLL_CTL_ADD, never[0], &ev));
    while (going()) {
        int n = epoll_wait(e, &ev, 1, 12);
        CHECK(n == 0 || (n == -1 && errno == EINTR && stopped));
    }
    OK(close(e));
    return arg;
}

static void *waits(void *arg) {
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&m);
    while (going()) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += 9 * MS;
        if (t.tv_nsec >= 1000 * MS) { t.tv_nsec -= 1000 * MS; t.tv_sec++; }
        CHECK(pthread_cond_timedwait(&c, &m, &t) == ETIMEDOUT);
    }
    pthread_mutex_unlock(&m);
    return arg;
}

static void *reads(void *arg) {
    unsigned char b, next = 0;
    for (;;) {
        ssize_t n = read(feed[0], &b, 1);
        CHECK(n == 0 || n == 1);
        if (n == 0) return arg;
        CHECK(b == next++);
    }
}

// Each of these waits once, for most of the time.
enum { LONG = 2300 };
static void *long_sleep(void *arg) {
    struct timespec t = {LONG / 1000, LONG % 1000 * MS}, rest;
    int64_t since = now_ns();
    CHECK(nanosleep(&t, &rest) == 0);
    TOOK(since, LONG);
    return arg;
}
static void *long_poll(void *arg) {
    struct pollfd p = {.fd = never[0], .events = POLLIN};
    int64_t since = now_ns();
    CHECK(poll(&p, 1, LONG) == 0);
    TOOK(since, LONG);
    return arg;
}
static void *long_select(void *arg) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(never[0], &set);
    struct timeval t = {LONG / 1000, LONG % 1000 * 1000};
    CHECK(select(never[0] + 1, &set, NULL, NULL, &t) == 0);
    return arg;
}
static void *long_sigwait(void *arg) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    siginfo_t info;
    int signal;
    while ((signal = sigwaitinfo(&set, &info)) == -1) CHECK(errno == EINTR && stopped);
    CHECK(signal == SIGUSR2 && info.si_code == SI_QUEUE && info.si_value.sival_int == 4711);
    return arg;
}

static volatile long alarms, on_stack;
static char stack[65536];
static void on_alarm(int s) {
    (void)s;
    char here;
    if (&here >= stack && &here < stack + sizeof stack) on_stack++;
    alarms++;
}

static volatile long faults;
static void on_fault(int s, siginfo_t *info, void *context) {
    (void)s;
    CHECK(info->si_addr == (void *)64);
    ucontext_t *uc = context;
    uc->uc_mcontext.gregs[REG_RAX] = (long)&faults;
    faults++;
}
static void fault(void) {
    long v;
    __asm__ volatile("mov (%%rax), %0" : "=r"(v) : "a"(64L) : "memory");
}

int main(int argc, char **argv) {
    (void)argv;
    stopped = argc > 1;
    begin = now_ns();
    end = begin + 3000 * MS;
    OK(pipe(feed));
    OK(pipe(never));
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    // One that comes while posix_spawn blocks it in the main thread would be another thread's, whose
    // epoll_wait would return EINTR, also natively.
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigfillset(&act.sa_mask);
    OK(sigaction(SIGSEGV, &act, NULL));
    void *(*all[])(void *) = {computes, sleeps, polls, epolls, waits, reads, long_sleep, long_poll, long_select, long_sigwait};
    enum { N = sizeof all / sizeof *all };
    pthread_t t[N];
    for (int i = 0; i < N; i++) OK0(pthread_create(&t[i], NULL, all[i], NULL));
    // The main thread alone gets the alarms, on a stack of its own.
    sigdelset(&set, SIGUSR2);
    sigdelset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    OK(sigaltstack(&alt, NULL));
    struct sigaction alarm_act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART | SA_ONSTACK};
    OK(sigaction(SIGALRM, &alarm_act, NULL));
    struct itimerval every = {{0, 3000}, {0, 3000}};
    OK(setitimer(ITIMER_REAL, &every, NULL));
    unsigned char next = 0;
    long children = 0;
    while (going()) {
        CHECK(write(feed[1], &next, 1) == 1);
        next++;
        fault();
        pid_t c;
        int status;
        if (children % 3 == 0) {
            c = OK(fork());
            if (c == 0) {
                struct timespec nap = {0, 5 * MS};
                nanosleep(&nap, NULL);
                _exit(children % 7);
            }
            CHECK(waitpid(c, &status, 0) == c && WEXITSTATUS(status) == children % 7);
        } else if (children % 3 == 1) {
            char *args[] = {"/bin/true", NULL};
            CHECK(posix_spawn(&c, args[0], NULL, NULL, args, environ) == 0);
            CHECK(waitpid(c, &status, 0) == c && status == 0);
        } else {
            sched_yield();
        }
        children++;
        unsigned a, b, cc, d;
        CHECK(__get_cpuid(0, &a, &b, &cc, &d) && a > 0);
    }
    struct itimerval off = {{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &off, NULL));
    union sigval value = {.sival_int = 4711};
    OK(sigqueue(getpid(), SIGUSR2, value));
    OK(close(feed[1]));
    for (int i = 0; i < N; i++) OK0(pthread_join(t[i], NULL));
    CHECK(alarms > 20 && on_stack == alarms && faults > 0 && children > 5);
    // What a task sees of itself: no tracer, and no mapping below 2 GiB where the program has none.
    FILE *f = fopen("/proc/self/status", "r");
    char line[512];
    int traced = -1;
    while (fgets(line, sizeof line, f)) sscanf(line, "TracerPid: %d", &traced);
    fclose(f);
    f = fopen("/proc/self/maps", "r");
    int vdso = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned long from;
        CHECK(sscanf(line, "%lx-", &from) == 1);
        CHECK(from > 0x5000000000ul);
        vdso += strstr(line, "[vdso]") != NULL;
    }
    fclose(f);
    CHECK(vdso == 1);
    uint64_t tsc = __builtin_ia32_rdtsc();
    CHECK(tsc != 0);
    printf("all is well, %s\n", traced == 0 ? "untraced" : "traced");
    return 0;
}
