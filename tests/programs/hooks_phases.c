// Two phases, and what the program tells Scribe of them: the example of the README.
#include "scribe.h"
#include <stdio.h>
#include <time.h>

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("phase one at %ld\n", (long)time(NULL));
    scribe_text("phase one is over");
    long id = scribe_bookmark("between the phases");
    if (id > 0)
        printf("bookmark %ld\n", id);
    for (int i = 0; i < 3; i++)
        scribe_event("item", i * i);
    printf("phase two\n");
    return 0;
}
