// Double-checked locking that publishes the object before it is filled in.
// cflags: -O1 -pthread
#include "bugs.h"
struct thing { int a, b; };
static struct thing store;
static struct thing *volatile thing;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static atomic_int bad;
static void *get(void *arg) {
    (void)arg;
    if (!thing) {
        pthread_mutex_lock(&m);
        if (!thing) {
            thing = &store;
            for (volatile int i = 0; i < 100; i++) {}
            store.a = 1;
            store.b = 2;
        }
        pthread_mutex_unlock(&m);
    }
    if (thing->a + thing->b != 3) bad = 1;
    return NULL;
}
int main(void) { two(get, NULL, get, NULL); return bad; }
