// dlopen, dlsym and dlclose while threads run: libraries come and go, code is unmapped and mapped anew.
// cflags: -pthread -ldl -lm
#include "check.h"
#include <dlfcn.h>

static volatile int stop;
static void *spin(void *arg) {
    long n = 0;
    while (!stop) {
        n++;
        if (n % 1000 == 0) sched_yield();
    }
    *(long *)arg = n;
    return NULL;
}

int main(void) {
    long n;
    pthread_t t;
    OK0(pthread_create(&t, NULL, spin, &n));
    void *at[10];
    for (int i = 0; i < 10; i++) {
        void *h = dlopen(i % 2 ? "libutil.so.1" : "libresolv.so.2", RTLD_NOW);
        CHECK(h);
        at[i] = dlsym(h, i % 2 ? "forkpty" : "ns_get16");
        if (!at[i]) at[i] = dlsym(h, "__ns_get16");
        CHECK(dlclose(h) == 0);
    }
    CHECK(dlopen("libnothing.so", RTLD_NOW) == NULL && dlerror());
    stop = 1;
    OK0(pthread_join(t, NULL));
    printf("symbols at %p %p, %ld rounds\n", at[0], at[1], n);
    return 0;
}
