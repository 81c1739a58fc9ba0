// A program that dies of a signal.
// expect: signal 15
#include "check.h"
int main(void) {
    printf("dying\n");
    raise(SIGTERM);
    return 0;
}
