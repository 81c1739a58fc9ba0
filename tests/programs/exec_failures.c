// Failing execve leaves the process as it was: missing, directory, not executable, bad format, too long arguments, bad pointers, script without interpreter.
#include "check.h"

int main(void) {
    char *av[] = {"x", "y", NULL}, *ev[] = {NULL};
    FAILS(execve("none", av, ev), ENOENT);
    FAILS(execve(".", av, ev), EACCES);
    write_file("plain", "hello", 5);
    FAILS(execve("plain", av, ev), EACCES);
    OK(chmod("plain", 0755));
    FAILS(execve("plain", av, ev), ENOEXEC);
    FAILS(execve("plain/x", av, ev), ENOTDIR);
    write_file("script", "#!/no/such/interpreter\n", 23);
    OK(chmod("script", 0755));
    FAILS(execve("script", av, ev), ENOENT);
    write_file("loop", "#!./loop\n", 9);
    OK(chmod("loop", 0755));
    FAILS(execve("loop", av, ev), ELOOP);
    FAILS(execve((char *)1, av, ev), EFAULT);
    char *bad[] = {"x", (char *)1, NULL};
    FAILS(execve("/bin/true", bad, ev), EFAULT);
    char *big = malloc(200000);
    memset(big, 'a', 199999);
    big[199999] = 0;
    char *many[2000];
    for (int i = 0; i < 1999; i++) many[i] = big;
    many[1999] = NULL;
    FAILS(execve("/bin/true", many, ev), E2BIG);
    write_file("busy", "#!/bin/sh\nexit 0\n", 17);
    OK(chmod("busy", 0755));
    int w = OK(open("busy", O_WRONLY));
    pid_t c = OK(fork());
    if (c == 0) {
        execve("busy", av, ev);
        _exit(errno == ETXTBSY ? 0 : 1); // newer kernels allow it
    }
    wait_exit(c, 0);
    OK(close(w));
    printf("still %d\n", getpid());
    execve("/bin/true", av, ev);
    return 1;
}
