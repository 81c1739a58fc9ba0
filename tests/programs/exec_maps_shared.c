// A child that executes another program and then maps what its parent has mapped, while the parent only waits.
#include "check.h"

static volatile unsigned *map(const char *name) {
    int fd = OK(open(name, O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 4096));
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    OK(close(fd));
    return p;
}

int main(int argc, char **argv) {
    volatile unsigned *p = map("shared");
    if (argc > 1) {
        p[1] = p[0] + noise_u32();
        printf("child: %08x\n", p[1]);
        return 4;
    }
    for (int i = 0; i < 5; i++) {
        p[0] = noise_u32();
        pid_t child = OK(fork());
        if (child == 0) {
            sleep_us(20000); // the parent waits by now
            execl("/proc/self/exe", argv[0], "child", (char *)NULL);
            _exit(1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4);
        printf("parent: %08x\n", p[1]);
    }
    return 0;
}
