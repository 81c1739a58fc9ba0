// A program that crashes with a thread running.
// cflags: -pthread
// expect: signal 11
#include "../programs/check.h"
static void *spin(void *a) { (void)a; for (volatile long i = 0;; i++) {} return NULL; }
int main(void) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    pthread_t t;
    OK0(pthread_create(&t, NULL, spin, NULL));
    usleep(2000);
    *(volatile int *)0x10 = 1;
    return 0;
}
