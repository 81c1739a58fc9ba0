// PTRACE_ATTACH to children that wait in calls, to all threads of one, registers, detaching with a signal, and that a tracer's end lets tracees go.
// cflags: -pthread
#include "ptrace.h"
#include <dirent.h>

static volatile int flag;
static int fds[2];

static void on_usr1(int sig) { flag = sig; }
static void *waits(void *a) { char b; CHECK(read(fds[0], &b, 1) == 1); return a; }

// Waits until the process has this many tasks, and all of them have slept for a while.
static int sleepers(pid_t pid, int wanted, pid_t *tids) {
    int n = 0;
    for (int quiet = 0, tries = 0; quiet < 4 && tries < 2000; tries++) {
        sleep_us(5000);
        char path[300], stat[200] = "";
        snprintf(path, sizeof path, "/proc/%d/task", pid);
        DIR *d = opendir(path);
        CHECK(d);
        int asleep = n = 0;
        for (struct dirent *e; n < 8 && (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            tids[n++] = atoi(e->d_name);
            snprintf(path, sizeof path, "/proc/%d/task/%s/stat", pid, e->d_name);
            int fd = open(path, O_RDONLY);
            if (fd == -1) continue;
            read_all(fd, stat, sizeof stat - 1);
            close(fd);
            char *state = strrchr(stat, ')');
            asleep += state && state[2] == 'S';
        }
        closedir(d);
        quiet = n == wanted && asleep == wanted ? quiet + 1 : 0;
    }
    return n;
}

int main(void) {
    OK(pipe(fds));
    // A child that reads.
    pid_t c = OK(fork());
    if (c == 0) {
        char b;
        signal(SIGUSR1, on_usr1);
        OK(write(1, "", 0));
        long got = read(fds[0], &b, 1);
        _exit(got == -1 && errno == EINTR ? 40 + flag : got == 1 ? b : 1);
    }
    pid_t own[8];
    CHECK(sleepers(c, 1, own) == 1);
    FAILS(ptrace(PTRACE_GETREGS, c, 0, 0), ESRCH);
    OK(ptrace(PTRACE_ATTACH, c, 0, 0));
    STOPS(c, SIGSTOP);
    FAILS(ptrace(PTRACE_ATTACH, c, 0, 0), EPERM);
    struct user_regs_struct r = regs_of(c);
    printf("reader %d at %llx, orig_rax %lld, rax %lld\n", c, r.rip, r.orig_rax, r.rax);
    CHECK(r.orig_rax == SYS_read && r.rdi == (unsigned)fds[0]);
    OK(ptrace(PTRACE_DETACH, c, 0, 0));
    sleep_us(5000);
    write_all(fds[1], "\x07", 1);
    wait_exit(c, 7);

    // The same, sent a signal in passing, whose handler interrupts the call.
    c = OK(fork());
    if (c == 0) {
        char b;
        struct sigaction sa = {.sa_handler = on_usr1};
        OK(sigaction(SIGUSR1, &sa, NULL));
        long got = read(fds[0], &b, 1);
        _exit(got == -1 && errno == EINTR ? 40 + flag : 1);
    }
    CHECK(sleepers(c, 1, own) == 1);
    OK(ptrace(PTRACE_ATTACH, c, 0, 0));
    STOPS(c, SIGSTOP);
    OK(ptrace(PTRACE_DETACH, c, 0, SIGUSR1));
    wait_exit(c, 40 + SIGUSR1);

    // All threads of a process.
    c = OK(fork());
    if (c == 0) {
        pthread_t t[3];
        for (int i = 0; i < 3; i++) OK0(pthread_create(&t[i], NULL, waits, NULL));
        for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
        _exit(9);
    }
    pid_t tids[8];
    int n = sleepers(c, 4, tids);
    CHECK(n == 4);
    for (int i = 0; i < n; i++) OK(ptrace(PTRACE_ATTACH, tids[i], 0, 0));
    int reads = 0, joins = 0;
    for (int i = 0; i < n; i++) {
        STOPS(tids[i], SIGSTOP);
        r = regs_of(tids[i]);
        reads += r.orig_rax == SYS_read;
        joins += r.orig_rax == SYS_futex;
    }
    CHECK(reads == 3 && joins == 1);
    write_all(fds[1], "abc", 3);
    for (int i = 0; i < n; i++) OK(ptrace(PTRACE_DETACH, tids[i], 0, 0));
    wait_exit(c, 9);

    // A tracer that ends: its tracee goes on. (It is nobody's child but ours.)
    int back[2];
    OK(pipe(back));
    c = OK(fork());
    if (c == 0) {
        char b;
        CHECK(read(fds[0], &b, 1) == 1);
        _exit(b);
    }
    pid_t tracer = OK(fork());
    if (tracer == 0) {
        if (ptrace(PTRACE_ATTACH, c, 0, 0) == -1) _exit(errno == EPERM ? 50 : 1);
        int status;
        CHECK(waitpid(c, &status, 0) == c && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        CHECK(waitpid(c, &status, WNOHANG) == 0);
        write_all(back[1], "x", 1);
        _exit(50);
    }
    wait_exit(tracer, 50);
    write_all(fds[1], "\x08", 1);
    wait_exit(c, 8);
    return 0;
}
