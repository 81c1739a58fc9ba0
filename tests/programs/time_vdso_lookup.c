// The vDSO found through AT_SYSINFO_EHDR: its symbols are looked up by hand and called; its image is read as memory.
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>

static void *find(const char *base, const char *name) {
    const Elf64_Ehdr *h = (const void *)base;
    const Elf64_Phdr *p = (const void *)(base + h->e_phoff);
    const Elf64_Dyn *dyn = NULL;
    uintptr_t bias = 0;
    int have_load = 0;
    for (int i = 0; i < h->e_phnum; i++) {
        if (p[i].p_type == PT_LOAD && !have_load) {
            bias = (uintptr_t)base + p[i].p_offset - p[i].p_vaddr;
            have_load = 1;
        }
        if (p[i].p_type == PT_DYNAMIC) dyn = (const void *)(base + p[i].p_offset);
    }
    CHECK(dyn && have_load);
    const char *str = NULL;
    const Elf64_Sym *sym = NULL;
    const uint32_t *hash = NULL, *gnu = NULL;
    for (; dyn->d_tag; dyn++) {
        void *at = (void *)(bias + dyn->d_un.d_ptr);
        if (dyn->d_tag == DT_STRTAB) str = at;
        if (dyn->d_tag == DT_SYMTAB) sym = at;
        if (dyn->d_tag == DT_HASH) hash = at;
        if (dyn->d_tag == DT_GNU_HASH) gnu = at;
    }
    CHECK(str && sym && (hash || gnu));
    unsigned count = 64;
    if (hash) count = hash[1];
    else {
        const uint32_t *bucket = gnu + 4 + gnu[2] * 2, *chain = bucket + gnu[0];
        count = 0;
        for (unsigned i = 0; i < gnu[0]; i++) if (bucket[i] >= count) count = bucket[i];
        while (!(chain[count - gnu[1]] & 1)) count++;
        count++;
    }
    for (unsigned i = 0; i < count; i++)
        if (sym[i].st_shndx && strcmp(str + sym[i].st_name, name) == 0) return (void *)(bias + sym[i].st_value);
    return NULL;
}

int main(void) {
    const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
    if (!base) SKIP("no vDSO");
    CHECK(memcmp(base, ELFMAG, 4) == 0);
    int (*gettime)(clockid_t, struct timespec *) = find(base, "__vdso_clock_gettime");
    int (*tod)(struct timeval *, void *) = find(base, "__vdso_gettimeofday");
    time_t (*tm)(time_t *) = find(base, "__vdso_time");
    int (*cpu)(unsigned *, unsigned *, void *) = find(base, "__vdso_getcpu");
    CHECK(gettime && tod);
    struct timespec t;
    for (int i = 0; i < 100; i++) CHECK(gettime(CLOCK_MONOTONIC, &t) == 0);
    CHECK(gettime(77, &t) == -EINVAL);
    struct timeval tv;
    CHECK(tod(&tv, NULL) == 0);
    // That one is as of the last tick.
    if (tm) CHECK(tm(NULL) >= tv.tv_sec - 1);
    unsigned c = 0, n = 0;
    if (cpu) CHECK(cpu(&c, &n, NULL) == 0);
    printf("vdso %p time %ld.%09ld cpu %u node %u image %08x\n", (void *)base, (long)t.tv_sec, t.tv_nsec, c, n, hash_bytes(base, 4096));
    return 0;
}
