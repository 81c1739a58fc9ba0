// Two locks taken in opposite orders: a deadlock, which an alarm reports.
// cflags: -O1 -pthread
#include "bugs.h"
static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static void on(int s) { (void)s; _exit(1); }
static void *ab(void *arg) { (void)arg; pthread_mutex_lock(&a); pthread_mutex_lock(&b); pthread_mutex_unlock(&b); pthread_mutex_unlock(&a); return NULL; }
static void *ba(void *arg) { (void)arg; usleep(500); pthread_mutex_lock(&b); pthread_mutex_lock(&a); pthread_mutex_unlock(&a); pthread_mutex_unlock(&b); return NULL; }
int main(void) {
    signal(SIGALRM, on);
    alarm(2);
    two(ab, NULL, ba, NULL);
    return 0;
}
