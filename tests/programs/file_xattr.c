// Extended attributes: set, get, list, remove, size queries, ERANGE, on path, link and descriptor.
#include "check.h"
#include <sys/xattr.h>

int main(void) {
    write_file("x", "1", 1);
    uint32_t r = noise_u32();
    if (setxattr("x", "user.one", &r, 4, 0) == -1) {
        CHECK(errno == EOPNOTSUPP || errno == EPERM);
        SKIP("no user xattrs here");
    }
    char buf[256];
    CHECK(getxattr("x", "user.one", NULL, 0) == 4);
    FAILS(getxattr("x", "user.one", buf, 2), ERANGE);
    CHECK(getxattr("x", "user.one", buf, sizeof buf) == 4 && memcmp(buf, &r, 4) == 0);
    FAILS(setxattr("x", "user.one", "z", 1, XATTR_CREATE), EEXIST);
    FAILS(setxattr("x", "user.two", "z", 1, XATTR_REPLACE), ENODATA);
    int fd = OK(open("x", O_RDONLY));
    OK(fsetxattr(fd, "user.two", "hello", 5, 0));
    ssize_t n = OK(flistxattr(fd, buf, sizeof buf));
    CHECK(memmem(buf, n, "user.one", 9) && memmem(buf, n, "user.two", 9));
    FAILS(listxattr("x", buf, 3), ERANGE);
    OK(removexattr("x", "user.one"));
    FAILS(fgetxattr(fd, "user.one", buf, sizeof buf), ENODATA);
    OK(symlink("x", "l"));
    FAILS(lsetxattr("l", "user.no", "1", 1, 0), EPERM);
    printf("random %08x list %zd\n", r, n);
    return 0;
}
