// Events: fork, vfork and its end, clone, exec by a thread, exit; tracees that end while stopped; PTRACE_O_EXITKILL; children that nobody attached.
// cflags: -pthread
#include "ptrace.h"
#include <sys/prctl.h>

#define EVENT(e) (SIGTRAP | (e) << 8)
static void *execs(void *a) { execl("/proc/self/exe", "events", "end", (char *)NULL); return a; }

int main(int argc, char **argv) {
    if (argc == 2) return argv[1][0] == 'e' ? 6 : 7;
    unsigned long msg;
    int status;
    pid_t c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        raise(SIGSTOP);
        pid_t g = OK(fork());
        if (g == 0) _exit(1);
        wait_exit(g, 1);
        g = vfork();
        if (g == 0) { execl("/proc/self/exe", "events", "vfork", (char *)NULL); _exit(9); }
        wait_exit(g, 7);
        pthread_t t;
        OK0(pthread_create(&t, NULL, execs, NULL));
        for (;;) pause();
    }
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE
        | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT));
    FAILS(ptrace(PTRACE_SETOPTIONS, c, 0, 0x40000000), EINVAL);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    int count[10] = {0}, stops = 0, ends = 0, childs = 0;
    pid_t thread = 0;
    for (;;) {
        pid_t w = waitpid(-1, &status, __WALL);
        CHECK(w > 0);
        if (WIFEXITED(status)) {
            ends++;
            if (w == c) break;
            continue;
        }
        CHECK(WIFSTOPPED(status));
        int event = status >> 16, sig = 0;
        if (event) {
            CHECK(event < 10 && WSTOPSIG(status) == SIGTRAP);
            count[event]++;
            OK(ptrace(PTRACE_GETEVENTMSG, w, 0, &msg));
            if (event == PTRACE_EVENT_CLONE) thread = msg;
            if (event == PTRACE_EVENT_EXEC && w == c) CHECK((pid_t)msg == thread);
            if (event == PTRACE_EVENT_EXIT && w == c && WEXITSTATUS(msg) == 6) CHECK(WIFEXITED((int)msg));
        } else if (WSTOPSIG(status) == SIGSTOP) stops++;
        else { CHECK(WSTOPSIG(status) == SIGCHLD); childs++; sig = SIGCHLD; }
        OK(ptrace(PTRACE_CONT, w, 0, sig));
    }
    CHECK(WEXITSTATUS(status) == 6);
    printf("forks %d vforks %d done %d clones %d execs %d exits %d stops %d\n", count[PTRACE_EVENT_FORK], count[PTRACE_EVENT_VFORK],
        count[PTRACE_EVENT_VFORK_DONE], count[PTRACE_EVENT_CLONE], count[PTRACE_EVENT_EXEC], count[PTRACE_EVENT_EXIT] > 2, stops);
    CHECK(count[PTRACE_EVENT_FORK] == 1 && count[PTRACE_EVENT_VFORK] == 1 && count[PTRACE_EVENT_VFORK_DONE] == 1);
    CHECK(count[PTRACE_EVENT_CLONE] == 1 && count[PTRACE_EVENT_EXEC] == 2 && stops == 3 && childs == 2);
    CHECK(ends >= 3 && ends <= 4);

    // Killed while it is stopped and its stop was not waited for.
    c = OK(fork());
    if (c == 0) { traceme_or_exit(); raise(SIGSTOP); _exit(1); }
    sleep_us(20000);
    OK(kill(c, SIGKILL));
    wait_signal(c, SIGKILL);

    // A tracer that ends takes its tracee with it, if it asked for that.
    int p[2];
    OK(pipe(p));
    OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t tracer = OK(fork());
    if (tracer == 0) {
        OK(close(p[0]));
        c = OK(fork());
        if (c == 0) { traceme_or_exit(); raise(SIGSTOP); for (;;) pause(); }
        OK(close(p[1]));
        STOPS(c, SIGSTOP);
        OK(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_EXITKILL));
        OK(ptrace(PTRACE_CONT, c, 0, 0));
        _exit(2);
    }
    OK(close(p[1]));
    wait_exit(tracer, 2);
    char b;
    CHECK(read(p[0], &b, 1) == 0);
    CHECK(wait(&status) > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    // Without options children are their own masters.
    c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        raise(SIGSTOP);
        pid_t g = OK(fork());
        if (g == 0) { raise(SIGUSR1); _exit(1); }
        wait_signal(g, SIGUSR1);
        _exit(5);
    }
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    STOPS(c, SIGCHLD);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
    wait_exit(c, 5);
    return 0;
}
