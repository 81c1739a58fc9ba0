// Runs until it is told to end (SIGTERM): threads that wait for each other by pipes, futexes and signals, that sleep, compute and ask for the time, and a child. Writes a number each time all of them have gone on: a wakeup that is lost once stops that for ever.
// cflags: -O1 -pthread
#include "../programs/check.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/mman.h>

enum { COMPUTES, TELLS_TIME, SLEEPS, POLLS, PIPES, SIGNALS, WAITS, CHILD, TIMER, KINDS };
static volatile unsigned long *steps;

static void *computes(void *arg) {
    volatile unsigned long x = 1;
    for (;;) {
        for (int i = 0; i < 100000; i++) x = x * 31 + i;
        steps[COMPUTES]++;
        usleep(1000);
    }
    return arg;
}

static void *tells_time(void *arg) {
    struct timespec before = {0, 0}, t;
    for (;;) {
        for (int i = 0; i < 3000; i++) {
            OK(clock_gettime(CLOCK_MONOTONIC, &t));
            CHECK(t.tv_sec > before.tv_sec || (t.tv_sec == before.tv_sec && t.tv_nsec >= before.tv_nsec));
            before = t;
        }
        steps[TELLS_TIME]++;
        usleep(500);
    }
    return arg;
}

static void *sleeps(void *arg) {
    for (;;) {
        struct timespec t = {0, 3000000};
        while (nanosleep(&t, &t) == -1 && errno == EINTR) ;
        steps[SLEEPS]++;
    }
    return arg;
}

static int never[2];
static void *polls(void *arg) {
    for (;;) {
        struct pollfd p = {.fd = never[0], .events = POLLIN};
        CHECK(poll(&p, 1, 2) == 0);
        steps[POLLS]++;
    }
    return arg;
}

// A byte goes to and fro; none may be lost, and none come twice.
static int there[2], back[2];
static void *echoes(void *arg) {
    unsigned char c;
    while (read(there[0], &c, 1) == 1) CHECK(write(back[1], &c, 1) == 1);
    return arg;
}

static void *pipes(void *arg) {
    unsigned char n = 0, c;
    for (;;) {
        CHECK(write(there[1], &n, 1) == 1);
        CHECK(read(back[0], &c, 1) == 1 && c == n);
        n++;
        steps[PIPES]++;
        usleep(200);
    }
    return arg;
}

// Two threads wake each other by signals.
static pthread_t first, second;
static sem_t known;
static void *takes_signals(void *arg) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_t *other = arg ? &second : &first;
    sem_wait(&known);
    if (arg) OK(pthread_kill(*other, SIGUSR1));
    for (;;) {
        int signal;
        CHECK(sigwait(&set, &signal) == 0 && signal == SIGUSR1);
        steps[SIGNALS]++;
        usleep(100);
        OK(pthread_kill(*other, SIGUSR1));
    }
    return arg;
}

// The same with a handler that ends a sigsuspend.
static volatile sig_atomic_t came;
static void on_usr2(int signal) { came += signal != 0; }
static pthread_t suspended;
static void *suspends(void *arg) {
    sigset_t none;
    sigemptyset(&none);
    sigaddset(&none, SIGUSR1);
    sigaddset(&none, SIGTERM);
    for (;;) {
        sigsuspend(&none);
        steps[WAITS]++;
    }
    return arg;
}

static void *wakes(void *arg) {
    unsigned long seen = 0;
    for (;;) {
        OK(pthread_kill(suspended, SIGUSR2));
        while (steps[WAITS] == seen) usleep(50);
        seen = steps[WAITS];
    }
    return arg;
}

static void on_alarm(int signal) { steps[TIMER] += signal != 0; }

// Enough for a snapshot to be read from a copy of the process.
static unsigned char much[4 << 20];

int main(void) {
    memset(much, 1, sizeof much);
    steps = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(steps != MAP_FAILED);
    pid_t child = OK(fork());
    if (child == 0) {
        pid_t parent = getppid();
        while (getppid() == parent) {
            steps[CHILD]++;
            usleep(1000);
        }
        _exit(0);
    }
    OK(pipe(never));
    OK(pipe(there));
    OK(pipe(back));
    sigset_t all;
    sigemptyset(&all);
    for (const int *s = (int[]){SIGUSR1, SIGUSR2, SIGTERM, 0}; *s; s++) sigaddset(&all, *s);
    pthread_sigmask(SIG_BLOCK, &all, 0);
    signal(SIGUSR2, on_usr2);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    OK(sigaction(SIGALRM, &action, 0));
    struct itimerval every = {{0, 7000}, {0, 7000}};
    // Only this thread takes it.
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, 0);
    pthread_t threads[6];
    void *(*const bodies[6])(void *) = {computes, tells_time, sleeps, polls, pipes, echoes};
    for (int i = 0; i < 6; i++) pthread_create(&threads[i], 0, bodies[i], 0);
    sem_init(&known, 0, 0);
    pthread_create(&first, 0, takes_signals, (void *)1);
    pthread_create(&second, 0, takes_signals, 0);
    sem_post(&known);
    sem_post(&known);
    pthread_create(&suspended, 0, suspends, 0);
    pthread_t waker;
    pthread_create(&waker, 0, wakes, 0);
    pthread_sigmask(SIG_UNBLOCK, &alarm, 0);
    OK(setitimer(ITIMER_REAL, &every, 0));
    unsigned long seen[KINDS] = {0}, rounds = 0;
    for (;;) {
        struct timespec tick = {0, 1000000};
        sigset_t end;
        sigemptyset(&end);
        sigaddset(&end, SIGTERM);
        if (sigtimedwait(&end, 0, &tick) == SIGTERM) break;
        int all_did = 1;
        for (int i = 0; i < KINDS; i++) all_did &= steps[i] != seen[i];
        if (!all_did) continue;
        for (int i = 0; i < KINDS; i++) seen[i] = steps[i];
        printf("%lu\n", ++rounds);
        fflush(stdout);
    }
    printf("told to end\n");
    fflush(stdout);
    kill(child, SIGKILL);
    return 0;
}
