// Resource limits: RLIMIT_FSIZE with SIGXFSZ, RLIMIT_NOFILE with EMFILE, RLIMIT_CPU with SIGXCPU, RLIMIT_AS, prlimit, inheritance.
#include "check.h"

static volatile int xfsz, xcpu;
static void on(int s) { if (s == SIGXFSZ) xfsz++; else xcpu++; }

int main(void) {
    struct rlimit r, old;
    OK(getrlimit(RLIMIT_NOFILE, &r));
    printf("files %llu of %llu\n", (unsigned long long)r.rlim_cur, (unsigned long long)r.rlim_max);
    r.rlim_cur = 20;
    OK(setrlimit(RLIMIT_NOFILE, &r));
    int fd, last = 0;
    while ((fd = open("/dev/null", O_RDONLY)) != -1) last = fd;
    CHECK(errno == EMFILE && last == 19);
    FAILS(dup2(0, 20), EBADF);
    FAILS(pipe((int[2]){0}), EMFILE);
    OK(close(19));
    OK(close(18));

    signal(SIGXFSZ, on);
    fd = OK(open("f", O_CREAT | O_RDWR, 0600));
    r = (struct rlimit){1000, 1000};
    OK(prlimit(0, RLIMIT_FSIZE, &r, &old));
    char buf[800] = {0};
    CHECK(write(fd, buf, 800) == 800 && write(fd, buf, 800) == 200);
    FAILS(write(fd, buf, 1), EFBIG);
    CHECK(xfsz == 1);
    FAILS(ftruncate(fd, 5000), EFBIG);
    CHECK(xfsz == 2);
    pid_t c = OK(fork());
    if (c == 0) {
        struct rlimit got;
        OK(getrlimit(RLIMIT_FSIZE, &got));
        CHECK(got.rlim_cur == 1000);
        signal(SIGXFSZ, SIG_DFL);
        OK(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
        write(fd, buf, 1);
        _exit(1);
    }
    wait_signal(c, SIGXFSZ);
    c = OK(fork());
    if (c == 0) {
        OK(setrlimit(RLIMIT_AS, &(struct rlimit){64 << 20, 64 << 20}));
        CHECK(mmap(NULL, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
        CHECK(malloc(256 << 20) == NULL);
        _exit(0);
    }
    wait_exit(c, 0);
    OK(getrlimit(RLIMIT_STACK, &r));
    FAILS(setrlimit(RLIMIT_STACK, &(struct rlimit){100, 50}), EINVAL);
    FAILS(getrlimit(99, &r), EINVAL);
    return 0;
}
