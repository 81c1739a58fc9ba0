// stat, fstat, lstat, statx, statfs, chmod, access and the times utimensat sets.
#include "check.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>

int main(void) {
    write_file("f", "hello", 5);
    struct stat st;
    OK(stat("f", &st));
    CHECK(S_ISREG(st.st_mode) && st.st_size == 5 && st.st_nlink == 1 && st.st_uid == geteuid());
    struct statx x;
    OK(statx(AT_FDCWD, "f", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &x));
    CHECK(x.stx_size == 5 && x.stx_ino == st.st_ino && makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev);
    int fd = OK(open("f", O_RDWR));
    OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x));
    FAILS(statx(AT_FDCWD, "none", 0, STATX_SIZE, &x), ENOENT);
    printf("ino %lu mtime %ld.%09ld btime %lld\n", (unsigned long)st.st_ino, (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
           (long long)x.stx_btime.tv_sec);

    struct timespec ts[2] = {{1000000, 123456789}, {2000000, 987654321}};
    OK(utimensat(AT_FDCWD, "f", ts, 0));
    OK(stat("f", &st));
    CHECK(st.st_atim.tv_sec == 1000000 && st.st_mtim.tv_sec == 2000000);
    ts[0].tv_nsec = UTIME_OMIT;
    ts[1].tv_nsec = UTIME_NOW;
    OK(futimens(fd, ts));
    OK(fstat(fd, &st));
    CHECK(st.st_atim.tv_sec == 1000000 && st.st_mtim.tv_sec > 1600000000);
    printf("mtime now %ld.%09ld\n", (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    struct timeval tv[2] = {{5, 0}, {6, 0}};
    OK(utimes("f", tv));

    OK(chmod("f", 0400));
    OK(fchmodat(AT_FDCWD, "f", 0604, 0));
    OK(fchmod(fd, 0640));
    OK(stat("f", &st));
    CHECK((st.st_mode & 07777) == 0640);
    CHECK(access("f", R_OK | W_OK) == 0);
    FAILS(access("f", X_OK), EACCES);
    CHECK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS) == 0);
    OK(fchown(fd, -1, -1));
    OK(fchownat(AT_FDCWD, "f", geteuid(), getegid(), 0));
    struct statfs fs;
    OK(statfs(".", &fs));
    OK(fstatfs(fd, &fs));
    printf("fs type %lx free %lu\n", (long)fs.f_type, (unsigned long)fs.f_bfree);
    OK(fsync(fd));
    OK(fdatasync(fd));
    OK(sync_file_range(fd, 0, 5, SYNC_FILE_RANGE_WRITE));
    OK(syncfs(fd));
    FAILS(fsync(-1), EBADF);
    return 0;
}
