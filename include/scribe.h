/* What a program can tell the Scribe that records it. C99 and C++, a header only, no library, no errno.
 *
 *   scribe_recorded()            is the program being recorded?
 *   scribe_bookmark("name")      set a bookmark: scribe replay --to NUMBER ends there
 *   scribe_text("phase two")     put a text into the log: scribe profile shows it
 *   scribe_event("queue", 17)    put a name and a number into the log
 *
 * Outside a recording each of them is one system call that the kernel refuses (some 150 ns) and returns 0. Within one, Scribe answers
 * in place of the kernel, after a stop of the program: some 10 us; for a bookmark as long as a
 * hash of its memory takes.
 *
 * Nothing has to be initialised, and nothing is kept: scribe record -p may begin to record the program at any time, and
 * scribe detach may end it. A program that asks in a loop where 150 ns count keeps the answer of scribe_recorded()
 * itself, and asks again now and then, if it wants to notice that.
 *
 * Recorded or replayed? A replay gives the program what the recording gave it, here as everywhere: scribe_recorded() is 1 in
 * both, scribe_bookmark() returns the same number. No program can find out that it is being replayed; if it could,
 * it might do something else than what was recorded.
 *
 * Under a filter of system calls (seccomp) that forbids prctl these calls do what that filter says, which may be to end
 * the program. What is not Linux on x86-64 is never recorded: all return 0 there, without a call.
 *
 * The Rust crate scribe-hooks is the same. */
#ifndef SCRIBE_H
#define SCRIBE_H

#include <stddef.h>

/* Most bytes of a text or name. */
#define SCRIBE_TEXT_MAX 65536

/* Errors. They are negative, and come from a recorder (or replayer) only. */
/* No bookmark can be set now: a process waits for its vfork child (posix_spawn, system), or the program traces processes of its own. */
#define SCRIBE_BUSY (-16)
/* More than SCRIBE_TEXT_MAX bytes. */
#define SCRIBE_TOO_LONG (-7)
/* The text cannot be read. */
#define SCRIBE_BAD_ADDRESS (-14)

/* The call behind all: prctl(SCRIBE_OPTION_, operation, text, size, value). Not for use outside of this header. */
#define SCRIBE_OPTION_ 0x53435242
#define SCRIBE_STATE_ 0
#define SCRIBE_BOOKMARK_ 1
#define SCRIBE_TEXT_ 2
#define SCRIBE_EVENT_ 3

#ifdef __cplusplus
extern "C" {
#endif

static inline long scribe_call_(long operation, const char *text, size_t size, long value) {
#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__)
    long result = 157; /* prctl */
    register long r10 __asm__("r10") = (long)size;
    register long r8 __asm__("r8") = value;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"((long)SCRIBE_OPTION_), "S"(operation), "d"(text), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    /* EINVAL is the kernel's answer, ENOSYS or EPERM that of a filter of system calls. */
    return result == -22 || result == -38 || result == -1 ? 0 : result;
#else
    (void)operation, (void)text, (void)size, (void)value;
    return 0;
#endif
}

static inline size_t scribe_length_(const char *text) {
    size_t length = 0;
    if (text)
        while (text[length])
            length++;
    return length;
}

/* 1: the program is being recorded, or replayed, which it cannot tell apart. 0: it is not. */
static inline int scribe_recorded(void) {
    return scribe_call_(SCRIBE_STATE_, NULL, 0, 0) > 0;
}

/* Sets a bookmark. name: shown by scribe profile; may be NULL or empty. Returns the bookmark's number, above 0: scribe replay --to
 * NUMBER ends within this call. 0: not recorded. Below 0: SCRIBE_BUSY, SCRIBE_TOO_LONG.
 * All threads and processes of the recording are brought together for it, and their memory is hashed: for phases of a
 * program, not for its loops. */
static inline long scribe_bookmark(const char *name) {
    return scribe_call_(SCRIBE_BOOKMARK_, name, scribe_length_(name), 0);
}

/* Puts size bytes of text into the log; they need not be UTF-8, and may hold NULs. 1: done. 0: not recorded. Below 0:
 * SCRIBE_TOO_LONG, SCRIBE_BAD_ADDRESS. */
static inline int scribe_text_n(const char *text, size_t size) {
    return (int)scribe_call_(SCRIBE_TEXT_, text, size, 0);
}

/* The same for a string. */
static inline int scribe_text(const char *text) {
    return scribe_text_n(text, scribe_length_(text));
}

/* Puts an event into the log: a name and a number. Returns as scribe_text does. */
static inline int scribe_event(const char *name, long value) {
    return (int)scribe_call_(SCRIBE_EVENT_, name, scribe_length_(name), value);
}

#ifdef __cplusplus
}
#endif

#endif
