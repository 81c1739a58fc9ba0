// Stores to pages of a private mapping that are still the file's, while signals come: a stop may fall
// behind the fault of such a store and before its effect. Locking memory takes such pages, too.
#include "check.h"

#define PAGES 2048

static volatile int taken;

static void on_alarm(int signal) {
    (void)signal;
    taken++;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    OK(sigaction(SIGALRM, &action, NULL));
    int fd = OK(open("stores", O_RDWR | O_CREAT | O_TRUNC, 0600));
    char page[4096];
    memset(page, 'a', sizeof page);
    for (int i = 0; i < PAGES; i++)
        CHECK(write(fd, page, sizeof page) == sizeof page);
    OK(close(fd));
    unsigned work = 0;
    for (int round = 0; round < 30; round++) {
        fd = OK(open("stores", O_RDONLY));
        char *map = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK(map != MAP_FAILED);
        OK(close(fd));
        if (round % 10 == 9 && mlock(map, PAGES * 1024) != 0)
            CHECK(errno == ENOMEM || errno == EPERM || errno == EAGAIN);
        struct itimerval soon = {{0, 0}, {0, 100 + round * 50}};
        OK(setitimer(ITIMER_REAL, &soon, NULL));
        for (int i = 0; i < PAGES; i++) {
            for (int j = 0; j < 500; j++)
                work = work * 1103515245 + 12345;
            map[i * 4096] = (char)work;
        }
        OK(munmap(map, PAGES * 4096));
    }
    if (mlockall(MCL_CURRENT) != 0)
        CHECK(errno == ENOMEM || errno == EPERM);
    OK(unlink("stores"));
    printf("taken %d, %u\n", taken > 0, work);
    return 0;
}
