// Two threads add to a counter without a lock: updates get lost.
// cflags: -O0 -pthread
#include "bugs.h"
static volatile int counter;
static void *add(void *arg) { (void)arg; for (int i = 0; i < 20; i++) counter++; return NULL; }
int main(void) { two(add, NULL, add, NULL); return counter != 40; }
