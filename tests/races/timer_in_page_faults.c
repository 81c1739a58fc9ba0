// A 7 ms timer hits a loop that does little but touch new pages, so that it often stands where a page fault was just served: the flags that its handler sees are no page fault's.
#include "../programs/check.h"
#include <ucontext.h>

#define PAGES 24000ul

static volatile sig_atomic_t hits;
static volatile unsigned long seen[4], flags[4], at;

static void on_alarm(int s, siginfo_t *info, void *context) {
    (void)s, (void)info;
    if (hits < 4) {
        seen[hits] = at;
        flags[hits] = (unsigned long)((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    }
    hits++;
}

int main(void) {
    handle(SIGALRM, on_alarm, SA_RESTART);
    char *pages = OK(mmap(NULL, PAGES << 12, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    OK(madvise(pages, PAGES << 12, MADV_NOHUGEPAGE));
    struct itimerval it = {{0, 7000}, {0, 7000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    while (at < PAGES && hits < 4) pages[at++ << 12] = 1;
    for (int i = 0; i < 4; i++) printf("%lu %lx\n", seen[i], flags[i]);
    return 0;
}
