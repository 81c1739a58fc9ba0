// ptrace in a pid namespace: ids in requests, waits, events, siginfos and /proc are those of the namespace. Skipped where namespaces or tracing are refused.
#include "ptrace.h"
#include <sys/mount.h>
#include <sys/signalfd.h>

static volatile sig_atomic_t told;
static volatile long word = 5;

static void on_child(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    told = info->si_pid;
}

static int tracer_in_status(const char *path) {
    char text[4096] = "";
    int fd = OK(open(path, O_RDONLY));
    read_all(fd, text, sizeof text - 1);
    close(fd);
    char *line = strstr(text, "TracerPid:");
    return line ? atoi(line + 10) : -1;
}

static int inside(void) {
    int status;
    char path[64];
    siginfo_t info;
    handle(SIGCHLD, on_child, SA_RESTART);
    CHECK(getpid() == 1);
    // Not for all of the machine: the mount is in a namespace of its own.
    int proc = unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("proc", "/proc", "proc", 0, NULL) == 0;
    pid_t c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        raise(SIGSTOP);
        pid_t grandchild = OK(fork());
        if (grandchild == 0) _exit(3);
        wait_exit(grandchild, 3);
        kill(getpid(), SIGUSR1);
        _exit(word == 7 ? 4 : 5);
    }
    CHECK(c == 2);
    STOPS(2, SIGSTOP);
    CHECK(told == 2);
    OK(ptrace(PTRACE_GETSIGINFO, 2, 0, &info));
    CHECK(info.si_pid == 2 && info.si_signo == SIGSTOP);
    OK(ptrace(PTRACE_SETOPTIONS, 2, 0, PTRACE_O_TRACEFORK));
    CHECK(regs_of(2).rip != 0 && peek(2, &word) == 5);
    OK(ptrace(PTRACE_POKEDATA, 2, &word, 6));
    if (proc) {
        CHECK(tracer_in_status("/proc/2/status") == 1);
        snprintf(path, sizeof path, "/proc/%d/mem", c);
        int fd = OK(open(path, O_RDWR));
        long seven = 7;
        CHECK(pwrite(fd, &seven, sizeof seven, (off_t)&word) == sizeof seven);
        close(fd);
    } else {
        OK(ptrace(PTRACE_POKEDATA, 2, &word, 7));
    }
    OK(ptrace(PTRACE_CONT, 2, 0, 0));
    STOPS(2, SIGTRAP | PTRACE_EVENT_FORK << 8);
    unsigned long message = 0;
    OK(ptrace(PTRACE_GETEVENTMSG, 2, 0, &message));
    CHECK(message == 3);
    STOPS(3, SIGSTOP);
    OK(ptrace(PTRACE_CONT, 2, 0, 0));
    OK(ptrace(PTRACE_CONT, 3, 0, 0));
    CHECK(OK(waitpid(3, &status, __WALL)) == 3 && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    // The tracee hears of its child, and sends itself a signal.
    int stops = 0;
    for (;;) {
        CHECK(OK(waitid(P_PID, 2, &info, WSTOPPED | WEXITED)) == 0 && info.si_pid == 2);
        if (info.si_code != CLD_TRAPPED) break;
        int sig = info.si_status & 0x7f;
        OK(ptrace(PTRACE_GETSIGINFO, 2, 0, &info));
        CHECK(info.si_pid == (sig == SIGCHLD ? 3 : 2));
        stops++;
        OK(ptrace(PTRACE_CONT, 2, 0, 0));
    }
    CHECK(stops == 2 && info.si_code == CLD_EXITED && info.si_status == 4);

    c = OK(fork());
    if (c == 0) for (;;) pause();
    CHECK(c == 4);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    int fd = OK(signalfd(-1, &set, 0));
    OK(ptrace(PTRACE_SEIZE, 4, 0, 0));
    OK(ptrace(PTRACE_INTERRUPT, 4, 0, 0));
    struct signalfd_siginfo record;
    CHECK(read(fd, &record, sizeof record) == sizeof record);
    CHECK(record.ssi_pid == 4 && record.ssi_signo == SIGCHLD && record.ssi_code == CLD_STOPPED);
    CHECK(OK(waitpid(-getpgrp(), &status, 0)) == 4 && WIFSTOPPED(status));
    FAILS(ptrace(PTRACE_PEEKUSR, 77, 0, 0), ESRCH);
    OK(ptrace(PTRACE_DETACH, 4, 0, 0));
    OK(kill(4, SIGTERM));
    CHECK(OK(waitpid(4, &status, 0)) == 4 && WTERMSIG(status) == SIGTERM);
    noise("inside");
    return 0;
}

int main(void) {
    if (geteuid() != 0 && unshare(CLONE_NEWUSER) == -1) SKIP("no user namespaces");
    pid_t first = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    if (first == -1) SKIP("no pid namespaces");
    if (first == 0) {
        OK(setpgid(0, 0));
        _exit(inside());
    }
    // Seen from outside it has another id, which is good for requests, too.
    wait_exit(first, 0);
    first = OK(syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
    if (first == 0) {
        traceme_or_exit();
        raise(SIGUSR2);
        _exit(6);
    }
    siginfo_t info;
    STOPS(first, SIGUSR2);
    OK(ptrace(PTRACE_GETSIGINFO, first, 0, &info));
    CHECK(regs_of(first).rip != 0 && info.si_pid == 1);
    OK(ptrace(PTRACE_CONT, first, 0, 0));
    wait_exit(first, 6);
    return 0;
}
