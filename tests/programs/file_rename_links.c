// rename, renameat2 (no-replace, exchange), hard and symbolic links, readlink truncation, unlink of an open file.
#include "check.h"

int main(void) {
    write_file("a", "aaa", 3);
    write_file("b", "bb", 2);
    struct stat sa, sb;
    OK(stat("a", &sa));
    OK(link("a", "a2"));
    OK(stat("a2", &sb));
    CHECK(sa.st_ino == sb.st_ino && sb.st_nlink == 2);
    FAILS(link("a", "b"), EEXIST);
    int fd = OK(open("b", O_RDONLY));
    OK(rename("a", "b"));
    OK(fstat(fd, &sb));
    CHECK(sb.st_nlink == 0);
    char buf[64] = "";
    CHECK(read(fd, buf, 10) == 2 && memcmp(buf, "bb", 2) == 0);
    write_file("c", "c", 1);
    int r = renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_NOREPLACE);
    CHECK(r == -1 && (errno == EEXIST || errno == EINVAL));
    int x = renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE);
    if (x == 0) {
        OK(stat("c", &sb));
        CHECK(sb.st_ino == sa.st_ino);
    }
    char target[32];
    snprintf(target, sizeof target, "t-%08x", noise_u32());
    OK(symlink(target, "s"));
    CHECK(readlink("s", buf, 4) == 4 && memcmp(buf, target, 4) == 0);
    CHECK(readlink("s", buf, sizeof buf) == (ssize_t)strlen(target));
    FAILS(readlink("c", buf, sizeof buf), EINVAL);
    FAILS(open("s", O_RDONLY), ENOENT);
    OK(lstat("s", &sb));
    CHECK(S_ISLNK(sb.st_mode) && sb.st_size == (off_t)strlen(target));
    OK(symlink("loop2", "loop1"));
    OK(symlink("loop1", "loop2"));
    FAILS(open("loop1", O_RDONLY), ELOOP);
    OK(mkdir("dir", 0700));
    OK(mkdir("dir/sub", 0700));
    FAILS(rmdir("dir"), ENOTEMPTY);
    FAILS(rename("dir", "dir/sub/dir"), EINVAL);
    FAILS(unlink("dir"), EISDIR);
    OK(unlinkat(AT_FDCWD, "dir/sub", AT_REMOVEDIR));
    OK(rmdir("dir"));
    FAILS(mkdir("s", 0700), EEXIST);
    FAILS(mkdir("no/where", 0700), ENOENT);
    printf("target %s ino %lu exchange %d\n", target, (unsigned long)sa.st_ino, x);
    return 0;
}
