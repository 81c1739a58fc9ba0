// Shared by all test programs: checks that abort with a message, and a line of values that
// differ from run to run, so that equal output of recording and replay proves something.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

UNUSED static void check_failed(const char *file, int line, const char *what) {
    int e = errno;
    dprintf(2, "FAIL %s:%d: %s (errno %d, %s)\n", file, line, what, e, strerror(e));
    abort();
}

// The condition holds.
#define CHECK(c) do { if (!(c)) check_failed(__FILE__, __LINE__, #c); } while (0)
// The call succeeds; its value.
#define OK(call) ({ errno = 0; __typeof__(call) r_ = (call); \
    r_ == (__typeof__(call))-1 ? check_failed(__FILE__, __LINE__, #call) : (void)0; r_; })
// The call fails with this errno.
#define FAILS(call, err) do { errno = 0; \
    if ((long)(call) != -1L || errno != (err)) check_failed(__FILE__, __LINE__, #call " != " #err); \
    } while (0)
// A pthread call succeeds.
#define OK0(call) do { int r_ = (call); if (r_) { errno = r_; \
    check_failed(__FILE__, __LINE__, #call); } } while (0)
// This machine cannot run the rest.
#define SKIP(why) do { printf("skip: %s\n", why); exit(0); } while (0)

UNUSED static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

UNUSED static void sleep_us(long us) {
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&t, &t) == -1 && errno == EINTR) {}
}

UNUSED static uint32_t noise_u32(void) {
    uint32_t v = 0;
    CHECK(getrandom(&v, sizeof v, 0) == sizeof v);
    return v;
}

// Four values that no two runs share.
UNUSED static void noise(const char *where) {
    printf("%s: pid %d time %lld stack %p random %08x\n", where, (int)getpid(),
           (long long)now_ns(), __builtin_frame_address(0), noise_u32());
}

__attribute__((constructor)) UNUSED static void check_start(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    noise("start");
}

// Waits for the child, which must exit with this code.
UNUSED static void wait_exit(pid_t pid, int code) {
    int status = 0;
    pid_t got;
    do got = waitpid(pid, &status, 0); while (got == -1 && errno == EINTR);
    if (got != pid || !WIFEXITED(status) || WEXITSTATUS(status) != code) {
        dprintf(2, "child %d: wait gave %d, status %#x, wanted exit %d\n", pid, got, status, code);
        check_failed(__FILE__, __LINE__, "wait_exit");
    }
}

// Waits for the child, which must die of this signal.
UNUSED static void wait_signal(pid_t pid, int sig) {
    int status = 0;
    pid_t got = waitpid(pid, &status, 0);
    if (got != pid || !WIFSIGNALED(status) || WTERMSIG(status) != sig) {
        dprintf(2, "child %d: wait gave %d, status %#x, wanted signal %d\n", pid, got, status, sig);
        check_failed(__FILE__, __LINE__, "wait_signal");
    }
}

// Writes everything, or fails.
UNUSED static void write_all(int fd, const void *data, size_t len) {
    const char *p = (const char *)data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n == -1 && errno == EINTR) continue;
        CHECK(n > 0);
        p += n;
        len -= n;
    }
}

// Reads exactly len bytes unless the end comes first; what it got.
UNUSED static size_t read_all(int fd, void *data, size_t len) {
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(fd, (char *)data + got, len - got);
        if (n == -1 && errno == EINTR) continue;
        CHECK(n >= 0);
        if (n == 0) break;
        got += n;
    }
    return got;
}

UNUSED static void write_file(const char *path, const void *data, size_t len) {
    int fd = OK(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    write_all(fd, data, len);
    OK(close(fd));
}

UNUSED static uint32_t hash_bytes(const void *data, size_t len) {
    const unsigned char *p = (const unsigned char *)data;
    uint32_t h = 2166136261u;
    while (len--) h = (h ^ *p++) * 16777619u;
    return h;
}

UNUSED static void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = fn;
    sa.sa_flags = flags | SA_SIGINFO;
    OK(sigaction(sig, &sa, NULL));
}
