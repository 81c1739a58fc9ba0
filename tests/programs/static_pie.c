// A static position-independent binary: relocates itself, addresses are random.
// cflags: -static-pie -fPIE
#include "check.h"

static int number = 7;
static int *pointer = &number;

int main(void) {
    CHECK(*pointer == 7 && pointer == &number);
    printf("main %p data %p heap %p\n", (void *)main, (void *)&number, malloc(1));
    return 0;
}
