// Two words that belong together are written one after the other without a lock.
// cflags: -O1 -pthread
#include "bugs.h"
static volatile long first, second;
static volatile int over;
static int bad;
static void *writer(void *arg) { (void)arg; for (long i = 1; i < 50; i++) { first = i; second = i; } over = 1; return NULL; }
static void *reader(void *arg) { (void)arg; for (int i = 0; i < 50 && !over; i++) { long f = first, s = second; if (f > s) bad = 1; } return NULL; }
int main(void) { two(writer, NULL, reader, NULL); return bad; }
