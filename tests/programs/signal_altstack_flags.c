// The alternate stack in a signal's context: flags as they were last set, which is not what sigaltstack tells where there is none; by thread, fork and exec.
#include "check.h"
#include <ucontext.h>

#define AUTODISARM (1u << 31)

static unsigned in_context, asked;

static void on_signal(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    stack_t now;
    OK(sigaltstack(NULL, &now));
    in_context = ((ucontext_t *)context)->uc_stack.ss_flags;
    asked = now.ss_flags;
}

static void look(const char *where, unsigned context, unsigned answer) {
    raise(SIGUSR1);
    printf("%s: %x, %x\n", where, in_context, asked);
    CHECK(in_context == context && asked == answer);
}

static void in_child(const char *where, unsigned context) {
    pid_t child = OK(fork());
    if (child == 0) {
        look(where, context, SS_DISABLE);
        exit(0);
    }
    wait_exit(child, 0);
}

static void *thread(void *arg) {
    look("thread", SS_DISABLE, SS_DISABLE);
    in_child("fork of a thread", SS_DISABLE);
    return arg;
}

int main(int argc, char **argv) {
    static char room[65536];
    handle(SIGUSR1, on_signal, SA_ONSTACK);
    if (argc > 1) {
        look("after exec", AUTODISARM, SS_DISABLE);
        return 0;
    }
    // Set, so that what started this program does not matter.
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    OK(sigaltstack(&stack, NULL));
    look("with one", 0, SS_ONSTACK);
    in_child("disabled, then fork", (stack.ss_flags = SS_DISABLE, sigaltstack(&stack, NULL), SS_DISABLE));
    pthread_t other;
    OK0(pthread_create(&other, NULL, thread, NULL));
    OK0(pthread_join(other, NULL));
    stack.ss_flags = (int)AUTODISARM;
    OK(sigaltstack(&stack, NULL));
    look("disarmed", AUTODISARM, SS_DISABLE);
    look("again", AUTODISARM, SS_DISABLE);
    execl("/proc/self/exe", argv[0], "x", NULL);
    CHECK(!"exec");
}
