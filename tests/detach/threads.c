// Runs until it is told to end (SIGTERM): threads that make threads all the time, which ask on which CPU they are. Where the C library has registered restartable sequences for one thread, it ends the program if that cannot be done for those that the thread makes. Writes a number now and then.
// cflags: -O1 -pthread
#define _GNU_SOURCE
#include "../programs/check.h"
#include <sched.h>

enum { MAKERS = 4 };
static volatile int over;
static unsigned long made;

static void *lives(void *arg) {
    CHECK(sched_getcpu() >= 0);
    __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    return arg;
}

static void *makes(void *arg) {
    while (!over) {
        pthread_t few[3];
        for (int i = 0; i < 3; i++) CHECK(pthread_create(&few[i], 0, lives, 0) == 0);
        for (int i = 0; i < 3; i++) CHECK(pthread_join(few[i], 0) == 0);
    }
    return arg;
}

// The makers begin anew now and then: those that came while the program was recorded may not be registered, nor are the threads that they make.
int main(void) {
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    OK(pthread_sigmask(SIG_BLOCK, &end, 0));
    for (int round = 1; !over; round++) {
        pthread_t makers[MAKERS];
        for (int i = 0; i < MAKERS; i++) CHECK(pthread_create(&makers[i], 0, makes, 0) == 0);
        struct timespec tick = {0, 20000000};
        int told = sigtimedwait(&end, 0, &tick) == SIGTERM;
        over = 1;
        for (int i = 0; i < MAKERS; i++) CHECK(pthread_join(makers[i], 0) == 0);
        over = told;
        printf("%d\n", round);
        fflush(stdout);
    }
    CHECK(made > 0);
    printf("told to end\n");
    return 0;
}
