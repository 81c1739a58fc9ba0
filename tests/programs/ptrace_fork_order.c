// A tracer hears of a fork from the one that forks before it hears of the new task, as from the kernel.
#include "ptrace.h"

int main(void) {
    for (int i = 0; i < 60; i++) {
        pid_t c = OK(fork());
        if (c == 0) {
            traceme_or_exit();
            raise(SIGSTOP);
            pid_t g = OK(i % 2 ? vfork() : fork());
            if (g == 0) _exit(21);
            wait_exit(g, 21);
            _exit(33);
        }
        STOPS(c, SIGSTOP);
        OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL));
        OK(ptrace(PTRACE_CONT, c, 0, 0));
        int status, forked = 0, ended = 0;
        pid_t w;
        while ((w = waitpid(-1, &status, __WALL)) > 0) {
            if (WIFEXITED(status)) {
                CHECK(WEXITSTATUS(status) == (w == c ? 33 : 21));
                ended++;
                continue;
            }
            int event = status >> 16;
            if (event) CHECK(w == c && event == (i % 2 ? PTRACE_EVENT_VFORK : PTRACE_EVENT_FORK));
            forked |= event;
            CHECK(forked);
            // The SIGSTOP of the new one is swallowed, the SIGCHLD of the other let through.
            int signal = WSTOPSIG(status) == SIGCHLD ? SIGCHLD : 0;
            OK(ptrace(PTRACE_CONT, w, 0, signal));
        }
        CHECK(errno == ECHILD && ended == 2);
    }
    return 0;
}
