// Linux aio by raw calls: io_setup, io_submit of reads and writes, io_getevents, eventfd notification, io_cancel, io_destroy.
#include "check.h"
#include <linux/aio_abi.h>
#include <sys/eventfd.h>

int main(void) {
    aio_context_t ctx = 0;
    if (syscall(SYS_io_setup, 8, &ctx) == -1) {
        CHECK(errno == ENOSYS || errno == EAGAIN);
        SKIP("no aio");
    }
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600)), ev = OK(eventfd(0, 0));
    uint32_t r[4] = {noise_u32(), noise_u32(), noise_u32(), noise_u32()}, back[4] = {0};
    struct iocb cb[4], *list[4];
    memset(cb, 0, sizeof cb);
    for (int i = 0; i < 4; i++) {
        cb[i] = (struct iocb){.aio_data = 100 + i, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd,
            .aio_buf = (uintptr_t)&r[i], .aio_nbytes = 4, .aio_offset = i * 4, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = ev};
        list[i] = &cb[i];
    }
    CHECK(syscall(SYS_io_submit, ctx, 4, list) == 4);
    struct io_event e[8];
    struct timespec t = {5, 0};
    long n = OK(syscall(SYS_io_getevents, ctx, 4, 8, e, &t));
    CHECK(n == 4);
    unsigned seen = 0;
    for (int i = 0; i < 4; i++) {
        CHECK(e[i].res == 4);
        seen |= 1 << (e[i].data - 100);
    }
    CHECK(seen == 15);
    eventfd_t done;
    OK(eventfd_read(ev, &done));
    CHECK(done == 4);
    struct iocb rd = {.aio_data = 7, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)back, .aio_nbytes = 16};
    list[0] = &rd;
    CHECK(syscall(SYS_io_submit, ctx, 1, list) == 1);
    CHECK(syscall(SYS_io_getevents, ctx, 1, 8, e, NULL) == 1 && e[0].res == 16);
    CHECK(memcmp(r, back, 16) == 0);
    rd.aio_fildes = 999;
    FAILS(syscall(SYS_io_submit, ctx, 1, list), EBADF);
    OK(syscall(SYS_io_destroy, ctx));
    FAILS(syscall(SYS_io_destroy, ctx), EINVAL);
    printf("context %lx value %08x\n", (unsigned long)ctx, back[3]);
    return 0;
}
