// mkfifo: open blocks until the other side comes, O_NONBLOCK gives ENXIO, end of file when the writer leaves.
#include "check.h"

int main(void) {
    OK(mkfifo("f", 0600));
    FAILS(open("f", O_WRONLY | O_NONBLOCK), ENXIO);
    int nb = OK(open("f", O_RDONLY | O_NONBLOCK));
    char buf[16];
    CHECK(read(nb, buf, 1) == 0);
    OK(close(nb));
    pid_t child = OK(fork());
    if (child == 0) {
        sleep_us(20000);
        int w = OK(open("f", O_WRONLY)); // blocks until the parent opens
        uint32_t r = noise_u32();
        write_all(w, &r, 4);
        printf("wrote %08x\n", r);
        _exit(0);
    }
    int64_t t = now_ns();
    int fd = OK(open("f", O_RDONLY)); // blocks until the child opens
    printf("open took %lld ns\n", (long long)(now_ns() - t));
    uint32_t v;
    CHECK(read_all(fd, &v, 4) == 4);
    CHECK(read(fd, buf, 1) == 0);
    printf("read %08x\n", v);
    wait_exit(child, 0);
    int rw = OK(open("f", O_RDWR));
    write_all(rw, "ab", 2);
    CHECK(read(rw, buf, 2) == 2);
    return 0;
}
