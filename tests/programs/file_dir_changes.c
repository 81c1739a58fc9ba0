// A directory read while entries are removed and made, deep paths, unlinkat and mkdirat relative to descriptors, long names.
#include "check.h"
#include <dirent.h>

int main(void) {
    OK(mkdir("d", 0700));
    char name[300];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "d/%d", i);
        write_file(name, "", 0);
    }
    DIR *d = opendir("d");
    CHECK(d);
    int seen = 0, removed = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        seen++;
        OK(unlinkat(dirfd(d), e->d_name, 0));
        removed++;
    }
    closedir(d);
    OK(rmdir("d"));
    CHECK(removed == 300);
    memset(name, 'n', 255);
    name[255] = 0;
    write_file(name, "1", 1);
    name[255] = 'n';
    name[256] = 0;
    FAILS(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    int fd = OK(open(".", O_RDONLY | O_DIRECTORY)), top = fd;
    for (int i = 0; i < 60; i++) {
        OK(mkdirat(fd, "deeper-and-deeper", 0700));
        int next = OK(openat(fd, "deeper-and-deeper", O_RDONLY | O_DIRECTORY));
        if (fd != top) OK(close(fd));
        fd = next;
    }
    OK(fchdir(fd));
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd) && strlen(cwd) > 60 * 18);
    for (int i = 0; i < 60; i++) {
        OK(chdir(".."));
        OK(rmdir("deeper-and-deeper"));
    }
    printf("%d seen, uid %u\n", seen, getuid());
    return 0;
}
