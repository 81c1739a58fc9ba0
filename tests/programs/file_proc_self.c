// /proc/self: status, stat, cmdline, exe, fd, cwd, maps, mountinfo and limits agree with what the calls say.
#include "check.h"
#include <dirent.h>

static char buf[1 << 16];

static char *slurp(const char *path) {
    int fd = OK(open(path, O_RDONLY));
    size_t n = read_all(fd, buf, sizeof buf - 1);
    buf[n] = 0;
    OK(close(fd));
    return buf;
}

int main(int argc, char **argv) {
    (void)argc;
    int pid = -1, ppid = -1;
    char *s = slurp("/proc/self/status");
    CHECK(sscanf(strstr(s, "\nPid:"), "\nPid: %d", &pid) == 1 && pid == getpid());
    CHECK(sscanf(strstr(s, "\nPPid:"), "\nPPid: %d", &ppid) == 1);
    CHECK(ppid == getppid() || ppid == 0 || getppid() == 0);
    s = slurp("/proc/self/stat");
    CHECK(atoi(s) == getpid());
    s = slurp("/proc/self/cmdline");
    CHECK(strcmp(s, argv[0]) == 0);
    printf("cmdline hash %08x\n", hash_bytes(s, strlen(s)));
    char exe[PATH_MAX], cwd[PATH_MAX], link[PATH_MAX];
    ssize_t n = OK(readlink("/proc/self/exe", exe, sizeof exe - 1));
    exe[n] = 0;
    CHECK(strstr(exe, "file_proc_self"));
    n = OK(readlink("/proc/self/cwd", link, sizeof link - 1));
    link[n] = 0;
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(cwd, link) == 0);

    write_file("here", "1", 1);
    int fd = OK(open("here", O_RDONLY));
    DIR *d = opendir("/proc/self/fd");
    CHECK(d);
    int seen = 0, count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        count++;
        if (atoi(e->d_name) == fd) seen = 1;
    }
    closedir(d);
    CHECK(seen);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    n = OK(readlink(path, link, sizeof link - 1));
    link[n] = 0;
    CHECK(strcmp(strrchr(link, '/'), "/here") == 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    CHECK(strstr(slurp(path), "pos:\t0"));
    snprintf(path, sizeof path, "/proc/%d/comm", getpid());
    CHECK(strncmp(slurp(path), "file_proc_self", 14) == 0);

    // Every mapping of the program itself is listed, at the address the program sees.
    static int in_data = 1;
    int on_stack = 0, hits = 0, lines = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f);
    char line[512];
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        CHECK(sscanf(line, "%lx-%lx", &from, &to) == 2);
        lines++;
        unsigned long at[3] = {(unsigned long)&in_data, (unsigned long)&on_stack, (unsigned long)main};
        for (int i = 0; i < 3; i++) hits += at[i] >= from && at[i] < to;
    }
    fclose(f);
    CHECK(hits == 3);
    printf("fds %d maps %d limits %08x\n", count, lines, hash_bytes(slurp("/proc/self/limits"), 100));
    FAILS(open("/proc/self/nothing", O_RDONLY), ENOENT);
    return 0;
}
