// tests/detach/everything.c, with time for a replay between the recording and the rest.
#define SLACK 120000
#include "../detach/everything.c"
