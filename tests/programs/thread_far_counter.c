// Threads that compute without any call, and whose loops leave only an object changed that is two pointers
// away from any register, as an interpreter's do.
// cflags: -pthread
#include "check.h"
#include <pthread.h>

#define ROUNDS 500000
struct number { long refs; const char *type; long size; unsigned digit; };
struct frame { struct number *locals[4]; };

__attribute__((noinline, noclone)) static void count(struct frame *frame) { frame->locals[2]->digit++; }

// Most of the time goes by in here, where no register and no code around leads to what counts.
#define CLEAR(reg) "xor " #reg ", " #reg "\n"
#define IDLE() \
    __asm__ volatile(CLEAR(%%eax) CLEAR(%%edx) CLEAR(%%esi) CLEAR(%%edi) CLEAR(%%r8d) CLEAR(%%r9d) CLEAR(%%r10d) CLEAR(%%r11d) \
                     ".skip 512, 0x90\n mov $300, %%ecx\n 1: dec %%ecx\n jnz 1b\n .skip 512, 0x90" \
                     ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory")

static void *compute(void *arg) {
    struct frame *frame = arg;
    for (;;) {
        count(frame);
        IDLE();
        if (frame->locals[2]->digit == ROUNDS) return NULL;
    }
}

static struct frame *new_frame(void) {
    struct frame *frame = malloc(sizeof *frame);
    for (int i = 0; i < 4; i++) {
        // Not side by side.
        CHECK(malloc(5000) != NULL);
        frame->locals[i] = calloc(1, sizeof *frame->locals[i]);
    }
    CHECK(malloc(5000) != NULL);
    return frame;
}

int main(void) {
    pthread_t threads[2];
    struct frame *frames[2];
    for (int i = 0; i < 2; i++) {
        frames[i] = new_frame();
        OK0(pthread_create(&threads[i], NULL, compute, frames[i]));
    }
    for (int i = 0; i < 2; i++) {
        OK0(pthread_join(threads[i], NULL));
        CHECK(frames[i]->locals[2]->digit == ROUNDS);
    }
    noise("end");
    return 0;
}
