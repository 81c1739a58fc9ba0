// Reading a directory of 2000 entries in small getdents64 buffers, seekdir, rewinddir, scandir; the order is the file system's.
#include "check.h"
#include <dirent.h>

int main(void) {
    OK(mkdir("d", 0700));
    OK(chdir("d"));
    uint32_t seed = noise_u32();
    for (int i = 0; i < 2000; i++) {
        char name[64];
        snprintf(name, sizeof name, "%08x-%d", seed * (2 * i + 1), i);
        if (i % 5) OK(mknod(name, S_IFREG | 0600, 0));
        else OK(symlink("nowhere", name));
    }
    int fd = OK(open(".", O_RDONLY | O_DIRECTORY));
    char buf[700] __attribute__((aligned(8)));
    int count = 0, calls = 0;
    uint32_t h = 0;
    for (long n; (n = OK(syscall(SYS_getdents64, fd, buf, sizeof buf))) > 0; calls++)
        for (char *p = buf; p < buf + n; count++) {
            struct dirent64 *e = (struct dirent64 *)p;
            h = h * 31 + hash_bytes(e->d_name, strlen(e->d_name));
            p += e->d_reclen;
        }
    CHECK(count == 2002);
    errno = 0;
    CHECK(syscall(SYS_getdents64, fd, buf, 8) <= 0);

    DIR *d = opendir(".");
    CHECK(d);
    struct dirent *e;
    for (int i = 0; i < 500; i++) CHECK(readdir(d));
    long pos = telldir(d);
    e = readdir(d);
    CHECK(e);
    char at[256];
    strcpy(at, e->d_name);
    for (int i = 0; i < 500; i++) CHECK(readdir(d));
    seekdir(d, pos);
    e = readdir(d);
    CHECK(e && strcmp(e->d_name, at) == 0);
    rewinddir(d);
    int again = 0;
    while (readdir(d)) again++;
    CHECK(again == 2002);
    closedir(d);
    struct dirent **names;
    int n = OK(scandir(".", &names, NULL, alphasort));
    CHECK(n == 2002);
    printf("calls %d order %08x at %s last %s ino %lu\n", calls, h, at, names[n - 1]->d_name, (unsigned long)names[n - 1]->d_ino);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') OK(unlink(names[i]->d_name));
        free(names[i]);
    }
    free(names);
    return 0;
}
