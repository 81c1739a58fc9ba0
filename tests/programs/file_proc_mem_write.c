// Writes to /proc/PID/mem reach memory that the program itself may not write, its text too; by write, pwrite and the vectored ones, to itself and to others.
#include "check.h"

__attribute__((noinline)) static int answer(void) {
    __asm__ volatile("");
    return 3;
}

int main(void) {
    int mem = OK(open("/proc/self/mem", O_RDWR));
    static char text[32] = "hello";
    char *fixed = OK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (pwrite(mem, "force", 5, (off_t)fixed) != 5) SKIP("the kernel forbids it");
    CHECK(!strcmp(fixed, "force"));
    OK(lseek(mem, (off_t)text, SEEK_SET));
    CHECK(write(mem, "je", 2) == 2);
    struct iovec parts[2] = {{"l", 1}, {"ly", 3}};
    CHECK(writev(mem, parts, 2) == 4);
    CHECK(!strcmp(text, "jelly"));
    CHECK(lseek(mem, 0, SEEK_CUR) == (off_t)text + 6);
    CHECK(pwritev(mem, parts, 2, (off_t)fixed) == 4);
    CHECK(!memcmp(fixed, "lly\0e", 5));
    CHECK(pwritev2(mem, parts, 1, (off_t)fixed + 4, 0) == 1);
    FAILS(pwrite(mem, "x", 1, 8), EIO);

    const unsigned char code[] = {0xb8, 7, 0, 0, 0, 0xc3};
    CHECK(answer() == 3);
    CHECK(pwrite(mem, code, sizeof code, (off_t)answer) == sizeof code);
    CHECK(answer() == 7);

    int go[2];
    OK(pipe(go));
    pid_t child = OK(fork());
    if (child == 0) {
        char c;
        OK(read(go[0], &c, 1));
        CHECK(!strcmp(fixed, "other") && answer() == 9);
        exit(5);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    int of = OK(open(path, O_RDWR));
    struct iovec both[2] = {{"oth", 3}, {"er", 3}};
    CHECK(pwritev(of, both, 2, (off_t)fixed) == 6);
    CHECK(pwrite(of, "\x09", 1, (off_t)answer + 1) == 1);
    OK(write(go[1], "x", 1));
    wait_exit(child, 5);
    CHECK(pread(of, path, 1, (off_t)fixed) == 0);
    printf("%.4s %d\n", fixed + 4, answer());
    noise("end");
}
