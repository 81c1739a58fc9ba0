// Standard output closed, reopened to a file, duplicated elsewhere and restored; written through other descriptors, by children, and by sendfile and splice.
#include "check.h"
#include <sys/sendfile.h>

int main(void) {
    write_all(1, "one\n", 4);
    int keep = OK(dup(1));
    OK(close(1));
    FAILS(write(1, "x", 1), EBADF);
    CHECK(open("file", O_RDWR | O_CREAT, 0600) == 1);
    dprintf(1, "hidden %08x\n", noise_u32());
    dprintf(keep, "two by %d\n", keep);
    OK(dup2(keep, 1));
    printf("three\n");
    struct iovec v[2] = {{"fo", 2}, {"ur\n", 3}};
    CHECK(writev(1, v, 2) == 5);
    write_file("text", "five\nsix\n", 9);
    int f = OK(open("text", O_RDONLY)), p[2];
    ssize_t n = sendfile(1, f, NULL, 5); // refused for files opened for appending
    if (n == -1) { CHECK(errno == EINVAL); write_all(1, "five\n", 5); }
    OK(pipe(p));
    write_all(p[1], "six\n", 4);
    n = splice(p[0], NULL, 1, NULL, 4, 0);
    if (n == -1) { CHECK(errno == EINVAL); write_all(1, "six\n", 4); }
    pid_t c = OK(fork());
    if (c == 0) {
        dprintf(2, "error from %d\n", getpid());
        execl("/bin/echo", "echo", "seven", (char *)NULL);
        _exit(1);
    }
    wait_exit(c, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", keep);
    int again = open(path, O_WRONLY | O_APPEND);
    if (again != -1) dprintf(again, "eight\n");
    OK(fclose(stdout));
    dprintf(keep, "nine %d\n", getpid());
    return 0;
}
