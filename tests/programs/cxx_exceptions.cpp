// C++ exceptions thrown deep, rethrown, from a signal handler's frame (-fnon-call-exceptions), coroutines by ucontext on their own stacks.
// cflags: -fnon-call-exceptions
#include "check.h"
#include <stdexcept>
#include <string>
#include <ucontext.h>
#include <vector>

static int unwound;
struct Guard { ~Guard() { unwound++; } };

static int deep(int n) {
    Guard g;
    if (n == 0) throw std::runtime_error("bottom " + std::to_string(getpid()));
    return deep(n - 1) + 1;
}

static void on_segv(int) {
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGSEGV);
    sigprocmask(SIG_UNBLOCK, &s, nullptr);
    throw 42;
}

static ucontext_t main_context, co[2];
static std::string trace;
static void routine(int i) {
    for (int k = 0; k < 3; k++) {
        trace += char('a' + i);
        try { throw i; } catch (int x) { CHECK(x == i); }
        swapcontext(&co[i], &co[1 - i]);
    }
}

static void prepare(int i) {
    static char stacks[2][65536];
    getcontext(&co[i]);
    co[i].uc_stack = {stacks[i], 0, sizeof stacks[i]};
    co[i].uc_link = &main_context;
    makecontext(&co[i], (void (*)())routine, 1, i);
}

int main() {
    std::string what;
    for (int i = 0; i < 20; i++) try { deep(50); } catch (std::exception &e) { what = e.what(); }
    CHECK(unwound == 20 * 51);
    signal(SIGSEGV, on_segv);
    int got = 0;
    volatile int *bad = (int *)16;
    try { *bad = 1; } catch (int x) { got = x; }
    CHECK(got == 42);
    prepare(0);
    prepare(1);
    swapcontext(&main_context, &co[0]);
    CHECK(trace == "ababab");
    printf("%s %s\n", what.c_str(), trace.c_str());
    return 0;
}
