// flock: shared, exclusive, non-blocking refusal, a blocking wait between processes, release by close.
#include "check.h"
#include <sys/file.h>

int main(void) {
    int a = OK(open("lock", O_RDWR | O_CREAT, 0600));
    int b = OK(open("lock", O_RDWR));
    OK(flock(a, LOCK_SH));
    OK(flock(b, LOCK_SH | LOCK_NB));
    FAILS(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    OK(flock(a, LOCK_UN));
    OK(flock(b, LOCK_UN));
    OK(flock(a, LOCK_EX));
    int p[2];
    OK(pipe(p));
    pid_t child = OK(fork());
    if (child == 0) {
        OK(close(a)); // or the lock would live on here
        int c = OK(open("lock", O_RDWR));
        FAILS(flock(c, LOCK_EX | LOCK_NB), EWOULDBLOCK);
        write_all(p[1], "r", 1);
        int64_t t = now_ns();
        OK(flock(c, LOCK_EX));
        uint32_t v = 0;
        CHECK(pread(c, &v, 4, 0) == 4);
        printf("child has the lock after %lld ns, read %08x\n", (long long)(now_ns() - t), v);
        _exit(0);
    }
    char ch;
    CHECK(read(p[0], &ch, 1) == 1);
    sleep_us(20000);
    uint32_t v = noise_u32();
    CHECK(pwrite(a, &v, 4, 0) == 4);
    OK(close(a));
    wait_exit(child, 0);
    OK(flock(b, LOCK_EX | LOCK_NB));
    return 0;
}
