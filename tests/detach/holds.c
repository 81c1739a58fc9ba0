// Has memory of all kinds, which it changes all the time and whose sums it writes; finds no child, no SIGCHLD, and the end of each pipe as soon as it closes it. Runs until it is told to end (SIGTERM).
// cflags: -O2
#include "../programs/check.h"

enum { OWN = 24 << 20, PART = 1 << 20, PIPES = 8 };
static volatile sig_atomic_t over, children;
static void on_term(int signal) { over = signal; }
static void on_child(int signal) { children += signal != 0; }

static unsigned char *map(size_t size, int flags, int fd) {
    unsigned char *at = mmap(0, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    CHECK(at != MAP_FAILED);
    for (size_t i = 0; i < size; i += 512) at[i] = i >> 9 | 1;
    return at;
}

static unsigned long sum(const unsigned char *at, size_t size, size_t step) {
    unsigned long sum = 0;
    for (size_t i = 0; i < size; i += step) sum = sum * 31 + at[i];
    return sum;
}

int main(void) {
    signal(SIGTERM, on_term);
    signal(SIGCHLD, on_child);
    unsigned char *own = map(OWN, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    unsigned char *wiped = map(PART, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    OK(madvise(wiped, PART, MADV_WIPEONFORK));
    unsigned char *kept = map(PART, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    OK(madvise(kept, PART, MADV_DONTFORK));
    unsigned char *shared = map(PART, MAP_SHARED | MAP_ANONYMOUS, -1);
    int fd = OK(open("holds.data", O_RDWR | O_CREAT | O_TRUNC, 0600));
    OK(ftruncate(fd, PART));
    unsigned char *file = map(PART, MAP_SHARED, fd);
    unsigned char *copy = map(PART, MAP_PRIVATE, fd);
    unsigned char *hidden = map(PART, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    OK(mprotect(hidden, PART, PROT_NONE));
    int pipes[PIPES][2];
    for (int i = 0; i < PIPES; i++) OK(pipe(pipes[i]));
    for (unsigned long round = 0; !over; round++) {
        for (size_t i = round % 4096; i < OWN; i += 64 << 10) own[i] += round;
        for (size_t i = round % 4096; i < PART; i += 8 << 10) {
            wiped[i] += 3, kept[i] += 5, shared[i] += 7, file[i] += 11, copy[i] += 13;
        }
        int *p = pipes[round % PIPES];
        char c;
        OK(close(p[1]));
        // Whoever else had it open would keep this waiting.
        OK(fcntl(p[0], F_SETFL, O_NONBLOCK));
        CHECK(read(p[0], &c, 1) == 0);
        OK(close(p[0]));
        OK(pipe(p));
        CHECK(waitpid(-1, 0, WNOHANG) == -1 && errno == ECHILD);
        CHECK(children == 0);
        if (round % 8 == 0) {
            OK(mprotect(hidden, PART, PROT_READ));
            printf("%lu: %lx %lx %lx %lx %lx %lx %lx\n", round, sum(own, OWN, 4096 * 3 + round % 4096),
                   sum(wiped, PART, 509), sum(kept, PART, 509), sum(shared, PART, 509), sum(file, PART, 509),
                   sum(copy, PART, 509), sum(hidden, PART, 512));
            fflush(stdout);
            OK(mprotect(hidden, PART, PROT_NONE));
        }
        usleep(500);
    }
    printf("all is well\n");
    return 0;
}
