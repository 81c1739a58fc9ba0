// Open-file-description locks: conflict between two descriptions of one process, inheritance over fork, a blocking wait in a thread.
// cflags: -pthread
#include "check.h"

static int lock(int fd, int cmd, short type, off_t start, off_t len) {
    struct flock f = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &f);
}

static int second;
static uint32_t shared_value;

static void *waiter(void *arg) {
    (void)arg;
    OK(lock(second, F_OFD_SETLKW, F_WRLCK, 0, 1));
    printf("thread got it, value %08x\n", shared_value);
    return NULL;
}

int main(void) {
    int a = OK(open("lock", O_RDWR | O_CREAT, 0600));
    second = OK(open("lock", O_RDWR));
    OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 1));
    FAILS(lock(second, F_OFD_SETLK, F_WRLCK, 0, 1), EAGAIN);
    struct flock g = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    OK(fcntl(second, F_OFD_GETLK, &g));
    CHECK(g.l_type == F_WRLCK && g.l_pid == -1);
    pid_t child = OK(fork());
    if (child == 0) {
        OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 2)); // the same description: no conflict
        FAILS(lock(second, F_OFD_SETLK, F_RDLCK, 1, 1), EAGAIN);
        _exit(0);
    }
    wait_exit(child, 0);
    pthread_t t;
    OK0(pthread_create(&t, NULL, waiter, NULL));
    sleep_us(20000);
    shared_value = noise_u32();
    OK(lock(a, F_OFD_SETLK, F_UNLCK, 0, 0));
    OK0(pthread_join(t, NULL));
    return 0;
}
