// What a program tells Scribe (include/scribe.h): from threads that wait, compute and lock, from children, from a
// handler, from a vfork child. Natively each call says that nobody records.
#include "check.h"
#include "scribe.h"

enum { THREADS = 3, ROUNDS = 15 };

static int recorded;
static long last;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t handled;

// The number of a new bookmark, or nothing where a process waits for its vfork child.
static long set(const char *name) {
    errno = 77;
    long id = scribe_bookmark(name);
    CHECK(errno == 77);
    if (id == SCRIBE_BUSY) return 0;
    CHECK(recorded ? id > 0 : id == 0);
    return id;
}

static void say(const char *text) {
    CHECK(scribe_text(text) == recorded);
}

// Computes, without a call.
static unsigned churn(unsigned x) {
    for (int i = 0; i < 200000; i++) x = x * 1664525u + 1013904223u;
    return x;
}

static void *work(void *arg) {
    unsigned x = noise_u32();
    char name[40];
    for (int i = 0; i < ROUNDS; i++) {
        x = churn(x);
        OK0(pthread_mutex_lock(&lock));
        snprintf(name, sizeof name, "thread %d round %d", (int)(intptr_t)arg, i);
        if (i % 5 == 0) {
            // Others wait for the lock meanwhile: numbers go up.
            long id = set(name);
            CHECK(id == 0 || id > last);
            if (id) last = id;
        }
        CHECK(scribe_event(name, x) == recorded);
        OK0(pthread_mutex_unlock(&lock));
        if (i % 5 == 2) set(NULL);
        sleep_us(noise_u32() % 300);
    }
    return (void *)(uintptr_t)x;
}

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info, (void)context;
    set("in the handler");
    handled++;
}

static void *sets_for_ever(void *arg) {
    for (;;) set((const char *)arg);
    return NULL;
}

int main(void) {
    recorded = scribe_recorded();
    say("");
    say("first text: \"quoted\" ä\n");
    CHECK(scribe_text_n("a\0b", 3) == recorded);
    CHECK(scribe_event("smallest", LONG_MIN) == recorded);

    static char big[SCRIBE_TEXT_MAX + 1];
    memset(big, 'x', sizeof big);
    CHECK(scribe_text_n(big, SCRIBE_TEXT_MAX) == recorded);
    CHECK(scribe_text_n(big, sizeof big) == (recorded ? SCRIBE_TOO_LONG : 0));
    CHECK(scribe_text_n((const char *)16, 1) == (recorded ? SCRIBE_BAD_ADDRESS : 0));

    set("alone");
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) OK0(pthread_create(&threads[i], NULL, work, (void *)i));

    // A child that waits in the kernel, one that sets bookmarks itself, and one that is killed at that.
    int pipes[2];
    OK(pipe(pipes));
    pid_t waits = OK(fork());
    if (!waits) {
        char c;
        close(pipes[1]);
        CHECK(read(pipes[0], &c, 1) == 1);
        _exit(scribe_recorded() == recorded ? 7 : 8);
    }
    pid_t sets = OK(fork());
    if (!sets) {
        for (int i = 0; i < 3; i++) set("in the child"), sleep_us(500);
        _exit(9);
    }
    pid_t dies = OK(fork());
    if (!dies)
        for (;;) set("killed");
    OK(kill(dies, SIGSTOP));
    sleep_us(3000);
    OK(kill(dies, SIGCONT));
    sleep_us(3000);
    OK(kill(dies, SIGKILL));
    wait_signal(dies, SIGKILL);

    handle(SIGALRM, handler, SA_RESTART);
    struct itimerval every = {{0, 2000}, {0, 2000}};
    OK(setitimer(ITIMER_REAL, &every, NULL));
    while (handled < 4) set("interrupted");
    OK(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));

    set("while a child waits");
    write_all(pipes[1], "!", 1);
    wait_exit(waits, 7);
    wait_exit(sets, 9);
    for (int i = 0; i < THREADS; i++) {
        void *x;
        OK0(pthread_join(threads[i], &x));
        printf("thread %d: %#x\n", i, (unsigned)(uintptr_t)x);
    }

    // Processes that end, and die, while their threads set bookmarks.
    for (int i = 0; i < 4; i++) {
        pid_t ends = OK(fork());
        if (!ends) {
            pthread_t setter;
            for (int k = 0; k < 2; k++) OK0(pthread_create(&setter, NULL, sets_for_ever, NULL));
            sleep_us(700 * i);
            if (i % 2) raise(SIGTERM);
            _exit(3);
        }
        if (i % 2) wait_signal(ends, SIGTERM);
        else wait_exit(ends, 3);
    }

    // Nothing can be brought together while a process waits for its vfork child.
    pid_t child = vfork();
    if (!child) {
        long id = scribe_bookmark("in a vfork child");
        _exit(id == (recorded ? SCRIBE_BUSY : 0) && scribe_recorded() == recorded ? 5 : 6);
    }
    wait_exit(child, 5);
    CHECK(recorded ? set("last") > last : set("last") == 0);
    printf("done\n");
    return 0;
}
