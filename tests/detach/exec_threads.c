/* Children with threads that make calls without end, whose first thread (or, with an argument, another one) execs after
 * some milliseconds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN 10

static int millis;

static void *call(void *unused) {
    (void)unused;
    for (;;)
        getppid();
}

static void *become_another(void *unused) {
    struct timespec some = {0, millis * 1000000L};
    (void)unused;
    nanosleep(&some, 0);
    execl("/bin/true", "true", (char *)0);
    _exit(9);
}

static void start(void *(*what)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, 0, what, 0))
        _exit(8);
}

int main(int argc, char **argv) {
    (void)argv;
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        millis = 1 + i % 7;
        pid_t child = fork();
        if (child == 0) {
            for (int k = 0; k < 3; k++)
                start(call);
            if (argc > 1) {
                start(become_another);
                call(0);
            }
            become_another(0);
        }
        if (waitpid(child, &status, 0) != child || status) {
            printf("child %d: %x\n", i, status);
            return 1;
        }
    }
    puts("all is well");
    return 0;
}
