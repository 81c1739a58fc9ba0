// The main thread leaves by pthread_exit while others go on; the exit status is that of the last exit_group.
// cflags: -pthread
#include "check.h"

static void *late(void *arg) {
    sleep_us(20000);
    printf("late thread %ld in process %d\n", (long)arg, getpid());
    if ((long)arg == 2) exit(21);
    return NULL;
}

int main(void) {
    pid_t c = OK(fork());
    if (c == 0) {
        pthread_t t;
        OK0(pthread_create(&t, NULL, late, (void *)1L));
        pthread_exit(NULL); // the process ends with status 0 when the last thread does
    }
    wait_exit(c, 0);
    c = OK(fork());
    if (c == 0) {
        pthread_t t;
        OK0(pthread_create(&t, NULL, late, (void *)2L));
        pthread_exit(NULL);
    }
    wait_exit(c, 21);
    c = OK(fork());
    if (c == 0) {
        pthread_t t;
        OK0(pthread_create(&t, NULL, late, (void *)3L));
        syscall(SYS_exit, 5); // the leader's own code counts when the others return by exit(2) too
    }
    wait_exit(c, 0);
    return 0;
}
