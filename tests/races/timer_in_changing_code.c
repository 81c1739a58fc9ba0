// A timer hits code in memory that is writable and executable, and that the program changes as it goes: functions made anew, an instruction's constant, the same through a second mapping.
// cflags: -O1
#include "../programs/check.h"

static volatile sig_atomic_t hits;
static volatile unsigned long seen[4];
static unsigned long counter;
static void on_alarm(int s) { (void)s; if (hits < 4) seen[hits] = counter; hits++; }
static void report(const char *what) {
    printf("%s: %lu %lu\n", what, seen[0], seen[1]);
    hits = 0;
}

// mov $value, %eax; add %edi, %eax; ret
static void put(unsigned char *at, unsigned value) {
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3};
    memcpy(code + 1, &value, 4);
    memcpy(at, code, sizeof code);
}

int main(void) {
    handle(SIGALRM, (void (*)(int, siginfo_t *, void *))on_alarm, SA_RESTART);
    struct itimerval it = {{0, 7000}, {0, 7000}};
    OK(setitimer(ITIMER_REAL, &it, NULL));
    unsigned char *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    unsigned (*volatile f)(unsigned) = (void *)code;
    // The whole function, at changing places.
    unsigned at = 0, value = 0;
    while (hits < 2) {
        if (counter % 500 == 0) {
            at = counter / 500 % 300 * 16;
            value = counter;
            put(code + at, value);
        }
        unsigned (*volatile g)(unsigned) = (void *)(code + at);
        CHECK(g(7) == value + 7);
        counter++;
    }
    report("functions");
    // A constant only, now and then.
    put(code, 1);
    value = 1;
    while (hits < 2) {
        if (counter % 1000 == 0) { value = counter; memcpy(code + 1, &value, 4); }
        CHECK(f(counter) == value + (unsigned)counter);
        counter++;
    }
    report("constant");
    // Through another mapping.
    int fd = OK(memfd_create("code", 0));
    OK(ftruncate(fd, 4096));
    unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *x = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(w != MAP_FAILED && x != MAP_FAILED);
    put(w, 1);
    value = 1;
    f = (void *)x;
    while (hits < 2) {
        if (counter % 1000 == 0) { value = counter; memcpy(w + 1, &value, 4); }
        CHECK(f(counter) == value + (unsigned)counter);
        counter++;
    }
    report("two mappings");
    // Written, then protected again.
    CHECK(mprotect(code, 8192, PROT_READ | PROT_EXEC) == 0);
    f = (void *)code;
    for (unsigned i = 0; i < 3; i++) {
        CHECK(mprotect(code, 8192, PROT_READ | PROT_WRITE) == 0);
        put(code, i);
        CHECK(mprotect(code, 8192, PROT_READ | PROT_EXEC) == 0);
        while (hits < 1) { CHECK(f(counter) == i + (unsigned)counter); counter++; }
        hits = 0;
    }
    report("protected");
    return 0;
}
