// atexit and on_exit order, stdio flushed by exit but not by _exit, quick_exit, destructors.
#include "check.h"

static int out;
static void first(void) { dprintf(out, "1"); }
static void second(void) { dprintf(out, "2"); }
static void with(int status, void *arg) { dprintf(out, "<%d%s>", status, (char *)arg); }
static void quick(void) { dprintf(out, "q"); }
__attribute__((destructor)) static void last(void) { if (out) dprintf(out, "d"); }

static void run(int how, const char *want, int code) {
    int p[2];
    OK(pipe(p));
    pid_t c = OK(fork());
    if (c == 0) {
        out = p[1];
        atexit(first);
        on_exit(with, "x");
        atexit(second);
        at_quick_exit(quick);
        FILE *f = fopen("buffered", "w");
        fprintf(f, "pid %d", getpid());
        if (how == 0) exit(3);
        if (how == 1) _exit(4);
        if (how == 2) quick_exit(5);
    }
    OK(close(p[1]));
    char buf[64] = "";
    read_all(p[0], buf, sizeof buf - 1);
    wait_exit(c, code);
    CHECK(strcmp(buf, want) == 0);
    struct stat st;
    OK(stat("buffered", &st));
    CHECK((st.st_size > 0) == (how == 0));
}

int main(void) {
    run(0, "2<3x>1d", 3);
    run(1, "", 4);
    run(2, "q", 5);
    return 0;
}
