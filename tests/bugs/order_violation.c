// A thread uses what its creator sets up only after creating it.
// cflags: -O1 -pthread
#include "bugs.h"
static int *volatile data;
static int bad;
static void *use(void *arg) { (void)arg; usleep(1000); if (!data) bad = 1; return NULL; }
int main(void) {
    pthread_t t;
    if (pthread_create(&t, NULL, use, NULL)) abort();
    data = malloc(sizeof *data);
    pthread_join(t, NULL);
    return bad;
}
