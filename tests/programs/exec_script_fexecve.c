// Scripts with #! and an argument, fexecve of a descriptor and of a memfd, execveat.
#include "check.h"

int main(void) {
    char script[200], *ev[] = {"PATH=/usr/bin:/bin", NULL};
    int n = snprintf(script, sizeof script, "#!/bin/sh -e\necho script $0 $1 $2 %08x pid $$\nfalse\necho never\n", noise_u32());
    write_file("s", script, n);
    OK(chmod("s", 0755));
    char *av[] = {"ignored", "one", "two", NULL};
    pid_t c = OK(fork());
    if (c == 0) {
        execve("./s", av, ev);
        _exit(99);
    }
    wait_exit(c, 1);
    int fd = OK(open("/bin/echo", O_RDONLY | O_CLOEXEC));
    char *echo[] = {"echo", "from", "fexecve", NULL};
    c = OK(fork());
    if (c == 0) {
        fexecve(fd, echo, ev);
        _exit(99);
    }
    wait_exit(c, 0);
    int m = OK(memfd_create("prog", MFD_CLOEXEC)), in = OK(open("/bin/true", O_RDONLY));
    char buf[65536];
    ssize_t k;
    while ((k = OK(read(in, buf, sizeof buf))) > 0) write_all(m, buf, k);
    c = OK(fork());
    if (c == 0) {
        fexecve(m, echo, ev);
        _exit(99);
    }
    wait_exit(c, 0);
    int dir = OK(open("/bin", O_PATH));
    c = OK(fork());
    if (c == 0) {
        syscall(SYS_execveat, dir, "echo", echo, ev, 0);
        _exit(99);
    }
    wait_exit(c, 0);
    FAILS(syscall(SYS_execveat, dir, "none", echo, ev, 0), ENOENT);
    printf("parent %d\n", getpid());
    return 0;
}
