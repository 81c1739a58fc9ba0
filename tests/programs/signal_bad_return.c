// What a handler leaves in its frame that the CPU or the kernel does not take ends the process, or is put right: segments, an address that is not canonical, flags, the extended state.
#include "check.h"
#include <ucontext.h>

static greg_t *regs_of(void *context) { return ((ucontext_t *)context)->uc_mcontext.gregs; }
static struct _libc_fpstate *state_of(void *context) { return ((ucontext_t *)context)->uc_mcontext.fpregs; }

static void address(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    regs_of(context)[REG_RIP] = (greg_t)0x8000000000000000;
}
static void segment(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    regs_of(context)[REG_CSGSFS] = 0x002b000000000000;
}
static void flags(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    // All but those that make the CPU trap.
    regs_of(context)[REG_EFL] = ~0x40100;
}
static void state_elsewhere(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    ((ucontext_t *)context)->uc_mcontext.fpregs = (void *)8;
}
static void no_state(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    ((ucontext_t *)context)->uc_mcontext.fpregs = NULL;
}
static void control(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    state_of(context)->mxcsr = ~0u;
}
static void legacy(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    *(unsigned *)((char *)state_of(context) + 464) = 0;
}

int main(void) {
    const struct {
        const char *name;
        void (*handler)(int, siginfo_t *, void *);
        int dies;
    } cases[] = {
        {"address", address, 1}, {"segment", segment, 1}, {"flags", flags, 0},
        {"state elsewhere", state_elsewhere, 1}, {"no state", no_state, 0},
        {"control", control, 1}, {"legacy", legacy, 0},
    };
    for (int i = 0; i < 7; i++) {
        pid_t child = OK(fork());
        if (child == 0) {
            handle(SIGUSR1, cases[i].handler, 0);
            raise(SIGUSR1);
            unsigned long left;
            __asm__ volatile("pushf\n pop %0\n cld" : "=r"(left));
            // I/O privilege, nested task: not the program's.
            CHECK(!(left & 0x7000));
            exit(4);
        }
        int status;
        OK(waitpid(child, &status, 0));
        printf("%s: %x\n", cases[i].name, status & ~0x80);
        CHECK((status & ~0x80) == (cases[i].dies ? SIGSEGV : 0x400));
    }
    noise("end");
}
