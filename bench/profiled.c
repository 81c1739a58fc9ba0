// For bench/run: loaded into a program, gives it a handler for SIGPROF and a timer of 100 Hz.
#include <signal.h>
#include <sys/time.h>

static volatile long hits;
static void handles(int signal) {
    (void)signal;
    hits++;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_handler = handles, .sa_flags = SA_RESTART};
    sigaction(SIGPROF, &action, 0);
    struct itimerval every = {{0, 10000}, {0, 10000}};
    setitimer(ITIMER_PROF, &every, 0);
}
