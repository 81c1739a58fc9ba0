// Memory of other processes: PEEK and POKE, /proc/PID/mem read and written (by write, too), process_vm_writev, of a stopped tracee, of one that waits, of one that works, and one's own.
#include "ptrace.h"

static char area[3 << 20] __attribute__((aligned(4096))) = "before";
static volatile long word = 1;
static const volatile long constant = 11;

int main(void) {
    int p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    pid_t c = OK(fork());
    if (c == 0) {
        traceme_or_exit();
        raise(SIGSTOP);
        CHECK(word == 0x1122334455667788 && constant == 12 && strcmp(area, "after") == 0);
        uint32_t sum = hash_bytes(area, sizeof area);
        write_all(q[1], &sum, 4);
        char b;
        CHECK(read(p[0], &b, 1) == 1);
        CHECK(strcmp(area + 4096, "into a waiting process") == 0);
        // Works, with calls now and then.
        while (word != -1) getppid();
        CHECK(strcmp(area + 8192, "into a working one") == 0);
        _exit(13);
    }
    STOPS(c, SIGSTOP);
    CHECK(peek(c, &word) == 1);
    OK(ptrace(PTRACE_POKEDATA, c, &word, 0x1122334455667788));
    OK(ptrace(PTRACE_POKETEXT, c, &constant, 12L));
    CHECK(peek(c, &constant) == 12 && constant == 11);
    FAILS(ptrace(PTRACE_PEEKDATA, c, 16, 0), EIO);
    FAILS(ptrace(PTRACE_POKEDATA, c, 16, 0), EIO);

    char path[64], back[64] = {0};
    snprintf(path, sizeof path, "/proc/%d/mem", c);
    int fd = OK(open(path, O_RDWR | O_CLOEXEC));
    CHECK(pread(fd, back, 6, (off_t)area) == 6 && strcmp(back, "before") == 0);
    CHECK(pwrite(fd, "after", 6, (off_t)area) == 6);
    CHECK(pread(fd, back, 6, (off_t)area) == 6 && strcmp(back, "after") == 0);
    // By write, at the descriptor's position, and more than a megabyte.
    char *big = malloc(2 << 20);
    for (int i = 0; i < 2 << 20; i++) big[i] = i * 7 >> 3;
    CHECK(lseek(fd, (off_t)(area + (1 << 20)), SEEK_SET) == (off_t)(area + (1 << 20)));
    CHECK(write(fd, big, 2 << 20) == 2 << 20);
    CHECK(lseek(fd, 0, SEEK_CUR) == (off_t)(area + sizeof area));
    FAILS(pwrite(fd, "x", 1, 16), EIO);

    OK(ptrace(PTRACE_DETACH, c, 0, 0));
    uint32_t sum;
    CHECK(read(q[0], &sum, 4) == 4);
    memcpy(area, "after", 6);
    memcpy(area + (1 << 20), big, 2 << 20);
    CHECK(sum == hash_bytes(area, sizeof area));
    printf("child %d, sum %08x\n", c, sum);

    sleep_us(5000);
    char text[] = "into a waiting process";
    struct iovec from[2] = {{text, 5}, {text + 5, sizeof text - 5}}, to[2] = {{area + 4096, 3}, {area + 4099, 100}};
    ssize_t n = process_vm_writev(c, from, 2, to, 2, 0);
    if (n == -1 && errno == EPERM) { kill(c, SIGKILL); SKIP("may not write to its child"); }
    CHECK(n == sizeof text);
    write_all(p[1], "x", 1);
    sleep_us(5000);
    CHECK(pwrite(fd, "into a working one", 19, (off_t)(area + 8192)) == 19);
    long end = -1;
    CHECK(pwrite(fd, &end, 8, (off_t)&word) == 8);
    wait_exit(c, 13);

    // One's own.
    int self = OK(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
    long twelve = 12;
    CHECK(pwrite(self, &twelve, 8, (off_t)&constant) == 8);
    CHECK(*(const volatile long *)&constant == 12);
    return 0;
}
