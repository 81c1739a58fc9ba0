// A thread frees what another has looked up under no lock.
// cflags: -O1 -pthread
#include "bugs.h"
static struct item { volatile int alive; } items[2] = {{1}, {1}};
static struct item *volatile current = &items[0];
static int bad;
static void *user(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct item *it = current;
        if (it && !it->alive) bad = 1;
    }
    return NULL;
}
static void *owner(void *arg) {
    (void)arg;
    usleep(200);
    struct item *old = current;
    current = &items[1];
    old->alive = 0;
    return NULL;
}
int main(void) { two(user, NULL, owner, NULL); return bad; }
