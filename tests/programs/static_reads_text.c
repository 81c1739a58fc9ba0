// A program without a dynamic loader that maps the text of libraries which others run, to read it (as valgrind does): it finds
// what the file holds. And mappings where such programs want them.
// cflags: -static
#include "check.h"

static void compare(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    struct stat st;
    OK(fstat(fd, &st));
    char *p = mmap(NULL, st.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED);
    static char piece[65536];
    for (off_t at = 0; at < st.st_size; at += sizeof piece) {
        ssize_t n = OK(pread(fd, piece, sizeof piece, at));
        CHECK(memcmp(piece, p + at, n) == 0);
    }
    printf("%s: the same\n", path);
    OK(munmap(p, st.st_size));
    OK(close(fd));
}

int main(void) {
    for (int i = 0; i < 3; i++) CHECK(system("ls / | sort | cat > listing") == 0);
    compare("/lib/x86_64-linux-gnu/libc.so.6");
    compare("/lib64/ld-linux-x86-64.so.2");
    // Where valgrind's own memory begins.
    char *p = mmap((void *)0x1002001000, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(p == (char *)0x1002001000);
    p[1] = 1;
    noise("end");
    return 0;
}
