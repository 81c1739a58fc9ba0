// openat2 with RESOLVE_ flags, and name_to_handle_at.
#include "check.h"
#include <linux/openat2.h>

static long openat2_(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

int main(void) {
    long fd = openat2_(AT_FDCWD, "f", O_RDWR | O_CREAT, 0600, 0);
    if (fd == -1 && errno == ENOSYS) SKIP("no openat2");
    CHECK(fd >= 0);
    OK(mkdir("d", 0700));
    OK(symlink("../f", "d/up"));
    OK(symlink("d", "dl"));
    int dir = OK(open("d", O_PATH));
    FAILS(openat2_(dir, "up", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    FAILS(openat2_(dir, "../f", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    FAILS(openat2_(AT_FDCWD, "dl/up", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
    FAILS(openat2_(dir, "up", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
    CHECK(openat2_(dir, "up", O_RDONLY, 0, 0) >= 0);
    FAILS(openat2_(AT_FDCWD, "f", O_RDONLY, 0777, 0), EINVAL);
    FAILS(syscall(SYS_openat2, AT_FDCWD, "f", NULL, 24), EFAULT);
    struct open_how small = {0};
    FAILS(syscall(SYS_openat2, AT_FDCWD, "f", &small, 8), EINVAL);

    struct { struct file_handle h; unsigned char bytes[128]; } handle;
    int mount;
    handle.h.handle_bytes = 0;
    int r = name_to_handle_at(AT_FDCWD, "f", &handle.h, &mount, 0);
    CHECK(r == -1);
    if (errno == EOVERFLOW) {
        OK(name_to_handle_at(AT_FDCWD, "f", &handle.h, &mount, 0));
        printf("handle type %d bytes %u hash %08x mount %d\n", handle.h.handle_type, handle.h.handle_bytes,
               hash_bytes(handle.bytes, handle.h.handle_bytes), mount);
    } else printf("no handles: %d\n", errno);
    return 0;
}
