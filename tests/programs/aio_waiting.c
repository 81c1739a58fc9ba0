// Linux aio: threads that wait for completions others submit, time limits, signals, vectors, fsync, errors, the ring in user memory, eventfd with epoll, destroying a context somebody waits on.
// cflags: -pthread
#include "check.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct ring { unsigned id, nr, head, tail, magic, compat, incompat, length; struct io_event events[]; };

static aio_context_t ctx;
static int file;
static volatile long waiter_got, handled;
static volatile pid_t waiter_tid;

static long submit(struct iocb *cb) { return syscall(SYS_io_submit, ctx, 1, &cb); }
static long events(long min, long n, struct io_event *e, struct timespec *t) {
    return syscall(SYS_io_getevents, ctx, min, n, e, t);
}
static struct iocb rw(int op, void *buf, size_t n, long off, uint64_t data) {
    return (struct iocb){.aio_data = data, .aio_lio_opcode = op, .aio_fildes = file, .aio_buf = (uintptr_t)buf,
        .aio_nbytes = n, .aio_offset = off};
}

static void *waiter(void *arg) {
    struct io_event e[64];
    uint64_t sum = 0;
    long n = 0;
    while (n < 60) {
        long got = events(1, 64, e, NULL);
        if (got == -1 && errno == EINTR) continue;
        CHECK(got > 0);
        for (long i = 0; i < got; i++) {
            CHECK(e[i].res == 8);
            sum += e[i].data;
        }
        n += got;
    }
    CHECK(sum == 60 * 59 / 2);
    waiter_got = n;
    return arg;
}
static void *interrupted(void *arg) {
    struct io_event e;
    waiter_tid = syscall(SYS_gettid);
    FAILS(events(1, 1, &e, NULL), EINTR);
    waiter_got = 77;
    return arg;
}
static void *destroyed(void *arg) {
    struct io_event e;
    waiter_tid = syscall(SYS_gettid);
    FAILS(events(1, 1, &e, NULL), EINVAL);
    return arg;
}
static void on_usr1(int s, siginfo_t *i, void *u) { (void)s; (void)i; (void)u; handled++; }

int main(void) {
    FAILS(syscall(SYS_io_setup, 0, &ctx), EINVAL);
    FAILS(syscall(SYS_io_setup, 1, (void *)8), EFAULT);
    if (syscall(SYS_io_setup, 128, &ctx) == -1) {
        CHECK(errno == ENOSYS || errno == EAGAIN);
        SKIP("no aio");
    }
    file = OK(open("f", O_RDWR | O_CREAT, 0600));
    struct io_event e[64];
    pthread_t t;
    // Somebody else waits for what is submitted here, in pieces.
    OK0(pthread_create(&t, NULL, waiter, NULL));
    static uint64_t data[60];
    for (int i = 0; i < 60; i++) {
        data[i] = noise_u32();
        struct iocb cb = rw(IOCB_CMD_PWRITE, &data[i], 8, i * 8, i);
        CHECK(submit(&cb) == 1);
        if (i % 7 == 0) sleep_us(1000);
    }
    OK0(pthread_join(t, NULL));
    CHECK(waiter_got == 60);

    // Time limits: nothing, and less than wanted.
    struct timespec limit = {0, 3000000};
    int64_t begin = now_ns();
    CHECK(events(1, 8, e, &limit) == 0);
    CHECK(now_ns() - begin >= 3000000);
    static uint64_t back[60];
    struct iovec v[2] = {{back, 13}, {(char *)back + 13, sizeof back - 13}};
    struct iocb rd = rw(IOCB_CMD_PREADV, v, 2, 0, 5);
    CHECK(submit(&rd) == 1);
    CHECK(events(3, 8, e, &limit) == 1 && e[0].data == 5 && e[0].res == sizeof back && e[0].obj == (uintptr_t)&rd);
    CHECK(memcmp(back, data, sizeof data) == 0);
    struct timespec none = {0, 0};
    CHECK(events(1, 8, e, &none) == 0 && events(0, 8, e, NULL) == 0);
    FAILS(events(2, 1, e, NULL), EINVAL);
    FAILS(events(-1, 1, e, NULL), EINVAL);

    // More than one at once: a vector, a sync, an end of file, an operation that fails.
    struct iovec w[2] = {{data, 8}, {data + 1, 16}};
    struct iocb cb[5] = {rw(IOCB_CMD_PWRITEV, w, 2, 4096, 1), rw(IOCB_CMD_FSYNC, NULL, 0, 0, 2),
        rw(IOCB_CMD_PREAD, back, 100, 4096 + 20, 3), rw(IOCB_CMD_PREAD, (void *)8, 8, 0, 4), rw(IOCB_CMD_FDSYNC, NULL, 0, 0, 5)};
    struct iocb *list[5] = {cb, cb + 1, cb + 2, cb + 3, cb + 4};
    CHECK(syscall(SYS_io_submit, ctx, 5, list) == 5);
    long n = 0;
    while (n < 5) n += OK(events(1, 64, e + n, NULL));
    long res[6] = {0};
    for (int i = 0; i < 5; i++) res[e[i].data] = (long)e[i].res;
    CHECK(res[1] == 24 && res[2] == 0 && (res[3] == 4 || res[3] == 0) && res[4] == -EFAULT && res[5] == 0);
    struct iocb bad = rw(99, back, 8, 0, 0);
    FAILS(submit(&bad), EINVAL);
    bad = rw(IOCB_CMD_PREAD, back, 8, -1, 0);
    FAILS(submit(&bad), EINVAL);
    bad = rw(IOCB_CMD_PREAD, back, 8, 0, 0);
    bad.aio_flags = IOCB_FLAG_RESFD, bad.aio_resfd = file;
    FAILS(submit(&bad), EINVAL);
    struct iocb *half[2] = {&cb[1], &bad};
    CHECK(syscall(SYS_io_submit, ctx, 2, half) == 1 && events(1, 8, e, NULL) == 1);
    FAILS(syscall(SYS_io_submit, ctx, 1, (void *)8), EFAULT);
    FAILS(syscall(SYS_io_submit, ctx + 4096, 1, list), EINVAL);
    FAILS(syscall(SYS_io_cancel, ctx, &cb[1], e), EINVAL);

    // The ring as libaio sees it, without a call.
    struct iocb plain = rw(IOCB_CMD_PREAD, back, 8, 0, 42);
    CHECK(submit(&plain) == 1);
    struct ring *r = (struct ring *)ctx;
    if (r->magic == 0xa10a10a1) {
        while (__atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == r->head) sleep_us(300);
        CHECK(r->events[r->head].data == 42 && r->events[r->head].res == 8);
        r->head = (r->head + 1) % r->nr;
    } else CHECK(events(1, 1, e, NULL) == 1);
    CHECK(events(0, 1, e, NULL) == 0);

    // Told by an eventfd, as servers do it.
    int ep = OK(epoll_create1(0)), ev = OK(eventfd(0, EFD_NONBLOCK));
    struct epoll_event want = {.events = EPOLLIN, .data.u64 = 9}, is;
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &want));
    plain.aio_flags = IOCB_FLAG_RESFD, plain.aio_resfd = ev;
    CHECK(submit(&plain) == 1);
    CHECK(epoll_wait(ep, &is, 1, 5000) == 1 && is.data.u64 == 9);
    eventfd_t count;
    OK(eventfd_read(ev, &count));
    CHECK(count == 1 && events(1, 8, e, NULL) == 1);

    handle(SIGUSR1, on_usr1, SA_RESTART);
    OK0(pthread_create(&t, NULL, interrupted, NULL));
    while (!waiter_tid) sleep_us(300);
    sleep_us(5000);
    while (waiter_got != 77) {
        OK(syscall(SYS_tgkill, getpid(), waiter_tid, SIGUSR1));
        sleep_us(5000);
        if (handled > 5) break;
    }
    OK0(pthread_join(t, NULL));
    CHECK(waiter_got == 77);
    // A mask of its own, which lets the signal through.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    OK0(pthread_sigmask(SIG_BLOCK, &set, NULL));
    OK(raise(SIGUSR1));
    long before = handled;
    uint64_t empty = 0;
    struct { void *set; size_t size; } mask = {&empty, 8};
    CHECK(events(1, 1, e, &limit) == 0 && handled == before);
    FAILS(syscall(SYS_io_pgetevents, ctx, 1, 1, e, NULL, &mask), EINTR);
    CHECK(handled == before + 1);

    waiter_tid = 0;
    OK0(pthread_create(&t, NULL, destroyed, NULL));
    while (!waiter_tid) sleep_us(300);
    sleep_us(5000);
    OK(syscall(SYS_io_destroy, ctx));
    OK0(pthread_join(t, NULL));
    printf("value %08x of context %lx\n", (unsigned)back[0], (unsigned long)ctx);
    return 0;
}
