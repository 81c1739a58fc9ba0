// The exit status of the program itself comes through.
// expect: exit 43
#include "check.h"
int main(void) {
    printf("leaving\n");
    return 43;
}
