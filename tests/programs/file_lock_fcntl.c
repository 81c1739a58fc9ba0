// POSIX record locks: ranges, F_GETLK, F_SETLKW blocking until another process unlocks, EDEADLK, loss at close.
#include "check.h"

static int lock(int fd, int cmd, short type, off_t start, off_t len) {
    struct flock f = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &f);
}

int main(void) {
    int fd = OK(open("lock", O_RDWR | O_CREAT, 0600));
    OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    int up[2], down[2];
    OK(pipe(up));
    OK(pipe(down));
    pid_t child = OK(fork());
    char ch = 'x';
    if (child == 0) {
        struct flock g = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
        OK(fcntl(fd, F_GETLK, &g));
        CHECK(g.l_type == F_WRLCK && g.l_pid == getppid() && g.l_start == 0 && g.l_len == 10);
        CHECK(lock(fd, F_SETLK, F_WRLCK, 5, 10) == -1 && (errno == EAGAIN || errno == EACCES));
        OK(lock(fd, F_SETLK, F_WRLCK, 10, 10));
        write_all(up[1], &ch, 1);
        OK(lock(fd, F_SETLKW, F_WRLCK, 0, 10)); // blocks until the parent gets EDEADLK and unlocks
        printf("child %d locked\n", (int)getpid());
        write_all(up[1], &ch, 1);
        CHECK(read(down[0], &ch, 1) == 1);
        int other = OK(open("lock", O_RDWR));
        OK(close(other)); // drops all of this process's locks
        write_all(up[1], &ch, 1);
        CHECK(read(down[0], &ch, 1) == 1);
        _exit(0);
    }
    CHECK(read(up[0], &ch, 1) == 1);
    // Once the child sits in F_SETLKW, asking for what it holds is a deadlock.
    for (int i = 0, waiting = 0; i < 200 && !waiting; i++) {
        char line[256];
        int pid = 0;
        FILE *f = fopen("/proc/locks", "r");
        if (!f) break;
        while (fgets(line, sizeof line, f))
            if (sscanf(line, "%*d: -> POSIX %*s %*s %d", &pid) == 1 && pid == child) waiting = 1;
        fclose(f);
        sleep_us(5000);
    }
    FAILS(lock(fd, F_SETLKW, F_WRLCK, 10, 1), EDEADLK);
    OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    CHECK(read(up[0], &ch, 1) == 1);
    struct flock g = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    OK(fcntl(fd, F_GETLK, &g));
    CHECK(g.l_type == F_WRLCK && g.l_pid == child);
    printf("held by %d from %lld for %lld\n", g.l_pid, (long long)g.l_start, (long long)g.l_len);
    write_all(down[1], &ch, 1);
    CHECK(read(up[0], &ch, 1) == 1);
    OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    write_all(down[1], &ch, 1);
    wait_exit(child, 0);
    return 0;
}
