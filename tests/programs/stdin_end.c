// Standard input that is empty: end of file at once, for read, stdio and poll.
#include "check.h"
#include <poll.h>

int main(void) {
    char b[10];
    CHECK(read(0, b, 10) == 0);
    CHECK(fgets(b, 10, stdin) == NULL && feof(stdin));
    struct pollfd p = {0, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 1);
    CHECK(isatty(0) == 0);
    return 0;
}
