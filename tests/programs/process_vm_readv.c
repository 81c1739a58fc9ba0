// process_vm_readv and writev on a child and on itself, /proc/PID/mem, kcmp.
#include "check.h"

int main(void) {
    volatile uint32_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    int up[2], go[2];
    char b;
    OK(pipe(up));
    OK(pipe(go));
    pid_t c = OK(fork());
    if (c == 0) {
        OK(close(go[1])); // so that it ends if the parent fails
        m[0] = noise_u32();
        m[1] = ~m[0];
        write_all(up[1], "r", 1);
        CHECK(read(go[0], &b, 1) == 1);
        _exit(m[2] == 12345 ? 0 : 1);
    }
    CHECK(read(up[0], &b, 1) == 1);
    uint32_t got[2] = {0, 0}, v = 12345;
    struct iovec l = {got, 8}, r = {(void *)m, 8};
    ssize_t n = process_vm_readv(c, &l, 1, &r, 1, 0);
    if (n == -1 && (errno == EPERM || errno == ENOSYS)) {
        kill(c, SIGKILL);
        wait_signal(c, SIGKILL);
        SKIP("no process_vm_readv");
    }
    CHECK(n == 8 && got[0] == ~got[1]);
    l = (struct iovec){&v, 4};
    r = (struct iovec){(void *)(m + 2), 4};
    CHECK(process_vm_writev(c, &l, 1, &r, 1, 0) == 4);
    r.iov_base = (void *)8;
    FAILS(process_vm_readv(c, &l, 1, &r, 1, 0), EFAULT);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", c);
    int fd = OK(open(path, O_RDONLY));
    uint32_t w;
    CHECK(pread(fd, &w, 4, (uintptr_t)(m + 1)) == 4 && w == got[1]);
    write_all(go[1], "g", 1);
    wait_exit(c, 0);
    l = (struct iovec){&w, 4};
    r = (struct iovec){&v, 4};
    CHECK(process_vm_readv(getpid(), &l, 1, &r, 1, 0) == 4 && w == 12345);
    int d = OK(dup(1));
    long k = syscall(SYS_kcmp, getpid(), getpid(), 0 /* KCMP_FILE */, 1, d);
    CHECK(k == 0 || (k == -1 && (errno == ENOSYS || errno == EPERM)));
    printf("child said %08x\n", got[0]);
    return 0;
}
