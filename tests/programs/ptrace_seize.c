// PTRACE_SEIZE: INTERRUPT in calls, stops of the whole process (with LISTEN until SIGCONT, and left by CONT), new threads and children that are seized at birth.
// cflags: -pthread
#include "ptrace.h"

#define STOPPED(sig) ((sig) | PTRACE_EVENT_STOP << 8)

static void *quiet(void *a) { sleep_us(2000); return a; }
static pid_t seized(unsigned long options, void (*body)(void)) {
    pid_t c = OK(fork());
    if (c == 0) { body(); _exit(0); }
    sleep_us(20000);
    if (ptrace(PTRACE_SEIZE, c, 0, options) == -1) {
        kill(c, SIGKILL);
        SKIP("may not trace");
    }
    return c;
}

static void pauses(void) { for (;;) pause(); }
static void sleeps(void) { struct timespec t = {0, 80000000}; _exit(nanosleep(&t, NULL) == 0 ? 5 : 6); }
static volatile int conts;
static void on_cont(int sig) { conts += sig == SIGCONT; }
static void stops(void) {
    signal(SIGCONT, on_cont);
    raise(SIGSTOP);
    for (int i = 0; i < 2000 && conts == 0; i++) sleep_us(1000);
    _exit(40 + conts);
}
static int go[2];
static void spawns(void) {
    char b;
    CHECK(read(go[0], &b, 1) == 1);
    pthread_t t;
    OK0(pthread_create(&t, NULL, quiet, NULL));
    OK0(pthread_join(t, NULL));
    pid_t g = OK(fork());
    if (g == 0) _exit(3);
    wait_exit(g, 3);
    _exit(4);
}

int main(void) {
    siginfo_t si;
    // Interrupted again and again.
    pid_t c = seized(0, pauses);
    FAILS(ptrace(PTRACE_GETEVENTMSG, c, 0, &si), ESRCH);
    for (int i = 0; i < 3; i++) {
        OK(ptrace(PTRACE_INTERRUPT, c, 0, 0));
        STOPS(c, STOPPED(SIGTRAP));
        struct user_regs_struct r = regs_of(c);
        CHECK(r.orig_rax == SYS_pause && (long)r.rax < 0);
        OK(ptrace(PTRACE_GETSIGINFO, c, 0, &si));
        CHECK(si.si_signo == SIGTRAP && si.si_code == STOPPED(SIGTRAP));
        if (i == 0) printf("pauses at %llx\n", r.rip);
        OK(ptrace(PTRACE_CONT, c, 0, 0));
    }
    OK(kill(c, SIGTERM));
    STOPS(c, SIGTERM);
    OK(ptrace(PTRACE_CONT, c, 0, SIGTERM));
    wait_signal(c, SIGTERM);

    // A sleep goes on where it was.
    c = seized(0, sleeps);
    OK(ptrace(PTRACE_INTERRUPT, c, 0, 0));
    STOPS(c, STOPPED(SIGTRAP));
    OK(ptrace(PTRACE_DETACH, c, 0, 0));
    wait_exit(c, 5);

    // A process that stops itself, before and after it is seized.
    c = seized(0, stops);
    STOPS(c, STOPPED(SIGSTOP));
    OK(ptrace(PTRACE_LISTEN, c, 0, 0));
    FAILS(ptrace(PTRACE_GETREGS, c, 0, &si), ESRCH);
    int status;
    CHECK(waitpid(c, &status, WNOHANG) == 0);
    OK(kill(c, SIGCONT));
    STOPS(c, STOPPED(SIGTRAP));
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    STOPS(c, SIGCONT);
    OK(ptrace(PTRACE_CONT, c, 0, SIGCONT));
    sleep_us(5000);
    wait_exit(c, 41);

    c = seized(0, pauses);
    OK(kill(c, SIGSTOP));
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_CONT, c, 0, SIGSTOP));
    STOPS(c, STOPPED(SIGSTOP));
    OK(ptrace(PTRACE_GETSIGINFO, c, 0, &si));
    CHECK(si.si_signo == SIGSTOP);
    OK(ptrace(PTRACE_LISTEN, c, 0, 0));
    OK(ptrace(PTRACE_INTERRUPT, c, 0, 0));
    STOPS(c, STOPPED(SIGSTOP));
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    OK(kill(c, SIGUSR1));
    STOPS(c, SIGUSR1);
    OK(kill(c, SIGKILL));
    wait_signal(c, SIGKILL);

    // Threads and children.
    OK(pipe(go));
    c = seized(PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT, spawns);
    write_all(go[1], "x", 1);
    int stop = 0, born = 0, over = 0, ends = 0, exits = 0;
    // What the new ones do may be heard of before their birth is; the first process ends last.
    while (!over) {
        pid_t w = waitpid(-1, &status, __WALL);
        CHECK(w > 0);
        if (WIFEXITED(status)) {
            CHECK(WEXITSTATUS(status) == (w == c ? 4 : WEXITSTATUS(status)));
            over = w == c;
            ends++;
            continue;
        }
        CHECK(WIFSTOPPED(status));
        int event = status >> 16, sig = 0;
        if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK) born++;
        else if (event == PTRACE_EVENT_STOP) { CHECK(WSTOPSIG(status) == SIGTRAP); stop++; }
        else if (event == PTRACE_EVENT_EXIT) {
            unsigned long msg;
            OK(ptrace(PTRACE_GETEVENTMSG, w, 0, &msg));
            exits += WEXITSTATUS(msg);
        } else { CHECK(event == 0 && WSTOPSIG(status) == SIGCHLD); sig = SIGCHLD; }
        OK(ptrace(PTRACE_CONT, w, 0, sig));
    }
    printf("%d born, %d first stops, %d ends\n", born, stop, ends);
    CHECK(born == 2 && stop == 2 && ends == 3 && exits == 7);
    return 0;
}
