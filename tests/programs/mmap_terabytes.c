// Mappings of terabytes of which hardly anything is touched, as sanitizers and virtual machines make them; and fork with them.
// timeout: 20
#include "check.h"

int main(void) {
    size_t len = 14ul << 40;
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) SKIP("no room for so much");
    size_t at[] = {0, 5 << 20, (1ul << 40) + 8192, (9ul << 40) + (3 << 20), len - 4096};
    enum { N = sizeof at / sizeof *at };
    uint32_t sum = 0;
    for (int i = 0; i < N; i++) {
        uint32_t *word = (uint32_t *)(p + at[i]);
        *word = noise_u32();
        sum += *word;
    }
    for (int round = 0; round < 3; round++) {
        pid_t child = OK(fork());
        if (child == 0) {
            uint32_t got = 0;
            for (int i = 0; i < N; i++) got += *(uint32_t *)(p + at[i]);
            CHECK(got == sum);
            *(uint32_t *)(p + at[2]) = 0;
            printf("sum %08x\n", got);
            exit(0);
        }
        int status;
        OK(waitpid(child, &status, 0));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    OK(munmap(p + (2ul << 40), 1ul << 40));
    noise("end");
    return 0;
}
