// Timers of a microsecond, whose signals come faster than anybody can take them: into computing, into calls, into handlers, and while they are blocked.
#include "check.h"

static volatile sig_atomic_t hits, most;
static timer_t timer;

static void stop(void) {
    struct itimerspec never = {0};
    OK(timer_settime(timer, 0, &never, NULL));
}

static void on_alarm(int sig) {
    struct itimerval never = {0};
    (void)sig;
    if (++hits == most) OK(setitimer(ITIMER_REAL, &never, NULL));
}

static void on(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info, (void)context;
    if (++hits == most) stop();
}

static void start(int times) {
    hits = 0;
    most = times;
    struct itimerspec fast = {{0, 1000}, {0, 1000}};
    OK(timer_settime(timer, 0, &fast, NULL));
}

int main(void) {
    handle(SIGRTMIN, on, SA_RESTART);
    signal(SIGALRM, on_alarm);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    OK(timer_create(CLOCK_MONOTONIC, &event, &timer));

    unsigned long count = 0;
    start(20);
    while (hits < most) count++;
    printf("%lu rounds, %d overruns\n", count, (int)OK(timer_getoverrun(timer)));
    start(50);
    int calls = 0;
    for (; hits < most; calls++) getppid();
    printf("%d calls\n", calls);

    int fds[2];
    char c;
    OK(pipe(fds));
    start(50);
    pid_t child = OK(fork());
    if (child == 0) {
        sleep_us(20000);
        write_all(fds[1], "x", 1);
        _exit(0);
    }
    CHECK(read_all(fds[0], &c, 1) == 1);
    stop();
    wait_exit(child, 0);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    start(1000000);
    for (int i = 0; i < 50; i++) {
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_code == SI_TIMER);
    }
    stop();
    OK(sigprocmask(SIG_UNBLOCK, &set, NULL));

    struct itimerval it = {{0, 1}, {0, 1}};
    hits = 0, most = 20;
    OK(setitimer(ITIMER_REAL, &it, NULL));
    count = 0;
    while (hits < most) count++;
    printf("%lu rounds\n", count);
    OK(timer_delete(timer));
    noise("end");
    return 0;
}
