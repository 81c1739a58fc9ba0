// An exec that fails when the old program is gone already (a segment that cannot be mapped) ends the process by SIGSEGV.
#include "check.h"
#include <elf.h>

static void make(const char *path, uint64_t address, int headers) {
    struct {
        Elf64_Ehdr head;
        Elf64_Phdr part;
    } file = {
        .head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                 .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
                 .e_entry = 0x400000, .e_phoff = sizeof(Elf64_Ehdr), .e_ehsize = sizeof(Elf64_Ehdr),
                 .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = headers},
        .part = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = address,
                 .p_filesz = sizeof file, .p_memsz = sizeof file, .p_align = 4096},
    };
    write_file(path, &file, sizeof file);
    OK(chmod(path, 0755));
}

static int run(const char *path, int blocked) {
    pid_t child = OK(fork());
    if (child == 0) {
        sigset_t all;
        sigfillset(&all);
        if (blocked) sigprocmask(SIG_BLOCK, &all, NULL);
        execl(path, path, NULL);
        _exit(errno);
    }
    int status;
    OK(waitpid(child, &status, 0));
    return status & ~0x80;
}

static void *waits(void *arg) {
    for (;;) pause();
    return arg;
}

int main(void) {
    make("high", 0xffff800000000000, 1);
    make("empty", 0x400000, 0);
    int status = run("./high", 0);
    printf("high: %x\n", status);
    CHECK(status == SIGSEGV);
    CHECK(run("./high", 1) == SIGSEGV);
    printf("no segments: %x\n", run("./empty", 0));
    // With other threads, which are gone by then, and as a vfork child.
    pid_t child = OK(fork());
    if (child == 0) {
        pthread_t other;
        OK0(pthread_create(&other, NULL, waits, NULL));
        execl("./high", "high", NULL);
        _exit(1);
    }
    int how;
    OK(waitpid(child, &how, 0));
    CHECK((how & ~0x80) == SIGSEGV);
    child = vfork();
    if (child == 0) {
        execl("./high", "high", NULL);
        _exit(1);
    }
    OK(waitpid(child, &how, 0));
    CHECK((how & ~0x80) == SIGSEGV);
    noise("end");
}
