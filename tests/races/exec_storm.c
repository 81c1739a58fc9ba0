// Processes that replace themselves again and again, several at a time.
#include "../programs/check.h"
#include <sys/wait.h>

int main(int argc, char **argv) {
    int left = argc > 1 ? atoi(argv[1]) : -1;
    if (left == 0) return 7;
    if (left > 0) {
        char next[16];
        snprintf(next, sizeof next, "%d", left - 1);
        execl("/proc/self/exe", argv[0], next, (char *)0);
        return 1;
    }
    for (int i = 0; i < 4; i++) {
        if (OK(fork()) == 0) {
            char n[16];
            snprintf(n, sizeof n, "%d", 4 + i);
            execl("/proc/self/exe", argv[0], n, (char *)0);
            _exit(1);
        }
    }
    int ended = 0, status;
    while (wait(&status) > 0) { CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7); ended++; }
    printf("%d ended\n", ended);
    return 0;
}
