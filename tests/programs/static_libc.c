// A static binary: threads, time, files, no dynamic loader.
// cflags: -static -pthread
#include "check.h"

static void *work(void *arg) { return (void *)((long)arg * 2 + (now_ns() > 0)); }

int main(void) {
    pthread_t t[4];
    for (long i = 0; i < 4; i++) OK0(pthread_create(&t[i], NULL, work, (void *)i));
    long sum = 0;
    for (int i = 0; i < 4; i++) {
        void *r;
        OK0(pthread_join(t[i], &r));
        sum += (long)r;
    }
    CHECK(sum == 16);
    uint32_t v = noise_u32();
    write_file("f", &v, 4);
    int fd = OK(open("f", O_RDONLY));
    uint32_t w;
    CHECK(read(fd, &w, 4) == 4 && w == v);
    pid_t c = OK(fork());
    if (c == 0) _exit(2);
    wait_exit(c, 2);
    printf("main at %p value %08x time %ld\n", (void *)main, w, (long)time(NULL));
    return 0;
}
