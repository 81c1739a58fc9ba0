// /proc/self/maps and smaps read in pieces of odd sizes: each gives the same lines, whole ones, those of this program and no others.
#include "check.h"

static char text[3][1 << 18];

static size_t pieces(const char *path, size_t size, char *into) {
    int fd = OK(open(path, O_RDONLY));
    size_t got = 0;
    ssize_t n;
    while ((n = OK(read(fd, into + got, size))) > 0) got += n;
    OK(close(fd));
    into[got] = 0;
    return got;
}

static void whole_lines(const char *lines) {
    unsigned long start, end, before = 0;
    int main_found = 0, n = 0;
    for (const char *line = lines; *line; line = strchr(line, '\n') + 1) {
        CHECK(sscanf(line, "%lx-%lx ", &start, &end) == 2);
        CHECK(start >= before && end > start);
        before = end;
        main_found |= start <= (unsigned long)whole_lines && (unsigned long)whole_lines < end;
        n++;
    }
    CHECK(main_found && n > 5);
}

int main(void) {
    static const size_t sizes[] = {1 << 17, 1024, 4096, 333, 64, 7, 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = pieces("/proc/self/maps", sizes[i], text[i > 0]);
        whole_lines(text[i > 0]);
        CHECK(i == 0 || strcmp(text[0], text[1]) == 0);
        printf("%zu bytes in pieces of %zu: %08x\n", n, sizes[i], hash_bytes(text[i > 0], n));
    }
    // The same at offsets.
    int fd = OK(open("/proc/self/maps", O_RDONLY));
    size_t got = 0;
    ssize_t n;
    while ((n = OK(pread(fd, text[2] + got, 500, 0))) > 0 && got == 0) got = n;
    CHECK(memcmp(text[0], text[2], got) == 0);
    OK(close(fd));
    // A stream: the C library reads 1024 bytes at a time.
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f);
    char line[500];
    int stack = 0, lines = 0;
    while (fgets(line, sizeof line, f)) {
        lines++;
        unsigned long start, end;
        CHECK(sscanf(line, "%lx-%lx ", &start, &end) == 2);
        stack |= strstr(line, "[stack]") && start < (unsigned long)&line && (unsigned long)&line < end;
    }
    fclose(f);
    CHECK(stack);
    pthread_attr_t a;
    void *addr;
    size_t size;
    OK0(pthread_getattr_np(pthread_self(), &a));
    OK0(pthread_attr_getstack(&a, &addr, &size));
    CHECK((char *)addr < (char *)&a && (char *)&a < (char *)addr + size);
    printf("%d lines\n", lines);
    return 0;
}
