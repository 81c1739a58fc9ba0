// The default action of every signal: end (with core flag), stop, continue, ignore; seen by the parent.
#include "check.h"

int main(void) {
    struct rlimit none = {0, 0};
    OK(setrlimit(RLIMIT_CORE, &none));
    int killed = 0, stopped = 0, ignored = 0;
    for (int sig = 1; sig < 65; sig++) {
        if (sig == 32 || sig == 33) continue;
        pid_t child = OK(fork());
        if (child == 0) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_UNBLOCK, &all, NULL);
            signal(sig, SIG_DFL);
            kill(getpid(), sig);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, WUNTRACED) == child);
        if (WIFSTOPPED(status)) {
            CHECK(sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU);
            CHECK(WSTOPSIG(status) == sig);
            OK(kill(child, SIGCONT));
            CHECK(waitpid(child, &status, WCONTINUED) == child);
            if (WIFCONTINUED(status)) CHECK(waitpid(child, &status, 0) == child);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            stopped++;
        } else if (WIFEXITED(status)) {
            CHECK(sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT);
            ignored++;
        } else {
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == sig);
            killed++;
        }
    }
    CHECK(stopped == 4 && ignored == 4 && killed == 54);
    return 0;
}
