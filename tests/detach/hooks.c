// Waits until it is recorded, tells so, and waits until it is not: for recordings that begin and end in the middle.
#include "check.h"
#include "scribe.h"

static void *rounds(void *arg) {
    (void)arg;
    for (int i = 0; scribe_recorded(); i++) {
        scribe_event("round", i);
        // 0 in the moment of the end.
        CHECK(scribe_bookmark("round") >= 0);
        sleep_us(1000);
    }
    return NULL;
}

int main(void) {
    CHECK(scribe_text("too early") == 0);
    CHECK(scribe_bookmark("too early") == 0);
    printf("ready\n");
    while (!scribe_recorded()) sleep_us(1000);
    CHECK(scribe_text("it begins") == 1);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) OK0(pthread_create(&threads[i], NULL, rounds, NULL));
    for (int i = 0; i < 3; i++) OK0(pthread_join(threads[i], NULL));
    CHECK(!scribe_recorded());
    CHECK(scribe_text("too late") == 0);
    CHECK(scribe_bookmark("too late") == 0);
    printf("all is well\n");
    return 0;
}
