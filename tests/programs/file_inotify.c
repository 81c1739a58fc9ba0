// inotify: creation, modification, rename cookies, removal of the watched directory, overflow-free order, non-blocking EAGAIN.
#include "check.h"
#include <sys/inotify.h>

int main(void) {
    int in = OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    OK(mkdir("d", 0700));
    int wd = OK(inotify_add_watch(in, "d", IN_ALL_EVENTS));
    char buf[4096] __attribute__((aligned(8)));
    FAILS(read(in, buf, sizeof buf), EAGAIN);
    write_file("d/one", "x", 1);
    OK(rename("d/one", "d/two"));
    OK(unlink("d/two"));
    ssize_t n = OK(read(in, buf, sizeof buf));
    uint32_t want[] = {IN_CREATE, IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE};
    size_t i = 0;
    uint32_t cookie = 0;
    for (char *p = buf; p < buf + n; i++) {
        struct inotify_event *e = (struct inotify_event *)p;
        CHECK(i < sizeof want / sizeof *want && e->mask == want[i] && e->wd == wd);
        printf("event %x %s cookie %x\n", e->mask, e->len ? e->name : "", e->cookie);
        if (e->mask == IN_MOVED_FROM) cookie = e->cookie;
        if (e->mask == IN_MOVED_TO) CHECK(e->cookie == cookie && cookie != 0);
        p += sizeof *e + e->len;
    }
    CHECK(i == sizeof want / sizeof *want);
    OK(rmdir("d"));
    n = OK(read(in, buf, sizeof buf));
    struct inotify_event *e = (struct inotify_event *)buf;
    CHECK(e->mask == IN_DELETE_SELF);
    e++;
    CHECK((char *)e < buf + n && e->mask == IN_IGNORED);
    FAILS(inotify_rm_watch(in, wd), EINVAL);

    // A blocking read in one process, woken by the change of another.
    OK(fcntl(in, F_SETFL, 0));
    OK(inotify_add_watch(in, ".", IN_CREATE));
    pid_t child = OK(fork());
    if (child == 0) {
        sleep_us(10000);
        char name[32];
        snprintf(name, sizeof name, "f%08x", noise_u32());
        write_file(name, "", 0);
        _exit(0);
    }
    CHECK(read(in, buf, sizeof buf) > 0);
    printf("then %s\n", ((struct inotify_event *)buf)->name);
    wait_exit(child, 0);
    return 0;
}
