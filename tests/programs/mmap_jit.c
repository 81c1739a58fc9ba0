// Code generated at run time: written and executed in one mapping, in two views of a memfd, rewritten in place, and execute-only.
#include "check.h"

typedef long (*fn)(long);

static void emit(unsigned char *p, int add) {
    // lea rax, [rdi + add]; ret
    unsigned char code[] = {0x48, 0x8d, 0x87, 0, 0, 0, 0, 0xc3};
    memcpy(code + 3, &add, 4);
    memcpy(p, code, sizeof code);
}

// getpid by a system call instruction in generated code: mov eax, 39; syscall; ret
static const unsigned char pid_code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
// rdtsc; shl rdx, 32; or rax, rdx; ret
static const unsigned char tsc_code[] = {0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3};

int main(void) {
    unsigned char *rwx = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rwx == MAP_FAILED) SKIP("no writable executable memory");
    int r = noise_u32() & 0xffffff;
    for (int i = 0; i < 100; i++) {
        emit(rwx + i * 8, r + i);
        CHECK(((fn)(rwx + i * 8))(5) == 5 + r + i);
    }
    for (int i = 0; i < 100; i++) { // self-modifying: the immediate of one function changes
        memcpy(rwx + 3, &i, 4);
        CHECK(((fn)rwx)(1) == 1 + i);
    }
    memcpy(rwx + 1024, pid_code, sizeof pid_code);
    for (int i = 0; i < 20; i++) CHECK(((fn)(rwx + 1024))(0) == getpid());
    memcpy(rwx + 2048, tsc_code, sizeof tsc_code);
    unsigned long a = ((fn)(rwx + 2048))(0), b = ((fn)(rwx + 2048))(0);
    CHECK(b >= a);
    printf("counter %lu and %lu later\n", a, b - a);
    emit(rwx + 1024, 3); // where the system call was
    CHECK(((fn)(rwx + 1024))(4) == 7);

    int fd = OK(memfd_create("jit", 0));
    OK(ftruncate(fd, 4096));
    unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *x = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(w != MAP_FAILED && x != MAP_FAILED);
    for (int i = 0; i < 10; i++) {
        emit(w, i);
        CHECK(((fn)x)(10) == 10 + i);
    }
    memcpy(w + 100, pid_code, sizeof pid_code);
    for (int i = 0; i < 5; i++) CHECK(((fn)(x + 100))(0) == getpid());

    unsigned char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(p, pid_code, sizeof pid_code);
    emit(p + 64, 9);
    OK(mprotect(p, 4096, PROT_EXEC));
    CHECK(((fn)p)(0) == getpid() && ((fn)(p + 64))(1) == 10);
    OK(mprotect(p, 4096, PROT_READ | PROT_WRITE));
    emit(p, 8);
    OK(mprotect(p, 4096, PROT_READ | PROT_EXEC));
    CHECK(((fn)p)(0) == 8);
    OK(munmap(p, 4096));
    unsigned char *q = mmap(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(q == p);
    memcpy(q, pid_code, sizeof pid_code);
    CHECK(((fn)q)(0) == getpid());
    printf("%p %p %p value %x\n", (void *)rwx, (void *)x, (void *)p, r);
    return 0;
}
