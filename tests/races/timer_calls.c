// A timer of 1 kHz hits calls of all kinds, of two threads: the handler notes where it was.
// cflags: -pthread
#include "../programs/check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile unsigned long where, hits, sum;
static int a[2], b[2];

static void on_alarm(int sig) {
    int e = errno;
    hits++;
    sum = sum * 31 + where + (unsigned)sig;
    errno = e;
}

static void *echo(void *arg) {
    char c;
    while (read(a[0], &c, 1) == 1 || errno == EINTR)
        if (write(b[1], &c, 1) != 1 && errno != EINTR) break;
        else if (c == 'q') return arg;
    return arg;
}

int main(void) {
    OK(pipe(a));
    OK(pipe(b));
    pthread_t t;
    struct sigaction s = {.sa_handler = on_alarm, .sa_flags = 0};
    OK(sigaction(SIGALRM, &s, NULL));
    OK0(pthread_create(&t, NULL, echo, NULL));
    struct itimerval v = {{0, 1000}, {0, 1000}};
    OK(setitimer(ITIMER_REAL, &v, NULL));
    int zero = OK(open("/dev/zero", O_RDONLY)), null = OK(open("/dev/null", O_WRONLY));
    unsigned long eintr = 0, restarted = 0;
    char buf[4096];
    for (int round = 0; round < 60; round++) {
        where = round * 10 + 1;
        for (int i = 0; i < 200; i++) { OK(read(zero, buf, 64)); OK(write(null, buf, 64)); getppid(); }
        where = round * 10 + 2;
        char c = 'x';
        while (write(a[1], &c, 1) != 1) eintr++;
        while (read(b[0], &c, 1) != 1) eintr++;
        where = round * 10 + 3;
        struct pollfd p = {b[0], POLLIN, 0};
        if (poll(&p, 1, 2) == -1) { CHECK(errno == EINTR); eintr++; }
        where = round * 10 + 4;
        struct timespec ts = {0, 700000}, rest;
        while (nanosleep(&ts, &rest) == -1) { CHECK(errno == EINTR); ts = rest; eintr++; }
        where = round * 10 + 5;
        if (round % 10 == 0) {
            pid_t child = fork();
            if (child == 0) _exit(round);
            int status;
            while (waitpid(child, &status, 0) == -1) { CHECK(errno == EINTR); eintr++; }
            CHECK(WEXITSTATUS(status) == round);
        }
        if (round == 30) { s.sa_flags = SA_RESTART; OK(sigaction(SIGALRM, &s, NULL)); restarted = hits; }
    }
    char q = 'q';
    while (write(a[1], &q, 1) != 1) eintr++;
    OK0(pthread_join(t, NULL));
    CHECK(hits > 20);
    printf("%lu hits, %lu before restarts, %lu interrupted, sum %lx\n", hits, restarted, eintr, sum);
    return 0;
}
