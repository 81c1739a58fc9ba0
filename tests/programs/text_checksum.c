// A program that reads its own text, before and after making system calls from many places: it must not see patches that come and go.
#include "check.h"
#include <elf.h>
#include <link.h>

static uint32_t h_all;
static int segments;

static int each(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        segments++;
        h_all = h_all * 31 + hash_bytes((void *)(info->dlpi_addr + p->p_vaddr), p->p_memsz);
    }
    return 0;
}

static uint32_t text(void) {
    h_all = 0;
    segments = 0;
    dl_iterate_phdr(each, NULL);
    return h_all;
}

int main(void) {
    // Natively all these are equal. A recorder may patch; then the replay must print the same hashes.
    printf("text %08x\n", text());
    for (int i = 0; i < 10; i++) {
        getppid();
        struct stat st;
        stat(".", &st);
        sched_yield();
    }
    printf("text %08x\n", text());
    int fd = OK(open("f", O_CREAT | O_RDWR, 0600));
    for (int i = 0; i < 10; i++) CHECK(write(fd, "x", 1) == 1 && lseek(fd, 0, SEEK_SET) == 0 && read(fd, &(char){0}, 1) == 1);
    printf("text %08x in %d segments\n", text(), segments);

    // What the file says is not what scribbles in memory say: reading the file gives the plain bytes.
    char exe[PATH_MAX];
    ssize_t n = OK(readlink("/proc/self/exe", exe, sizeof exe - 1));
    exe[n] = 0;
    int e = OK(open(exe, O_RDONLY));
    char buf[4096];
    uint32_t h = 0;
    while ((n = OK(read(e, buf, sizeof buf))) > 0) h = h * 31 + hash_bytes(buf, n);
    printf("file %08x\n", h);
    return 0;
}
