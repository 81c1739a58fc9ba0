// Threads wait in calls while another thread of theirs maps a file that a second process has mapped: from then on all share memory.
// cflags: -pthread
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int p[4][2];
static _Atomic unsigned *shared;

static void *waits(void *arg) {
    long me = (long)arg;
    char c;
    for (int i = 0; i < 20; i++) {
        CHECK(read(p[me][0], &c, 1) == 1);
        if (shared) *shared = *shared * 31 + c + me;
        getppid();
    }
    return NULL;
}

int main(void) {
    char name[] = "shared-file";
    int f = OK(open(name, O_RDWR | O_CREAT, 0600)), ready[2], done[2];
    OK(ftruncate(f, 4096));
    OK(pipe(ready));
    OK(pipe(done));
    for (int i = 0; i < 4; i++) OK(pipe(p[i]));
    pid_t child = OK(fork());
    char c = 'r';
    if (child == 0) {
        pthread_t t[3];
        for (long i = 0; i < 3; i++) OK0(pthread_create(&t[i], NULL, waits, (void *)i));
        // They wait in calls by now, after some that did not.
        sleep_us(20000);
        CHECK(write(ready[1], &c, 1) == 1);
        CHECK(read(done[0], &c, 1) == 1);
        shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
        CHECK(shared != MAP_FAILED);
        CHECK(write(ready[1], &c, 1) == 1);
        for (int i = 0; i < 3; i++) OK0(pthread_join(t[i], NULL));
        _exit(*shared & 63);
    }
    CHECK(read(ready[0], &c, 1) == 1);
    for (int k = 0; k < 5; k++)
        for (int i = 0; i < 3; i++) CHECK(write(p[i][1], "abcde" + k, 1) == 1);
    sleep_us(5000);
    _Atomic unsigned *mine = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    CHECK(mine != MAP_FAILED);
    *mine = 7;
    CHECK(write(done[1], &c, 1) == 1);
    CHECK(read(ready[0], &c, 1) == 1);
    unsigned sum = 0;
    for (int k = 0; k < 15; k++)
        for (int i = 0; i < 3; i++) {
            CHECK(write(p[i][1], "fghijklmnopqrst" + k, 1) == 1);
            sum = sum * 17 + *mine;
        }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == (int)(*mine & 63));
    printf("%x %x\n", sum, *mine);
    unlink(name);
    return 0;
}
