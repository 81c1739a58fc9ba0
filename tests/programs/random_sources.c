// getrandom with its flags, getentropy, AT_RANDOM, arc4random where there is one, the stack protector's canary, malloc addresses.
#include "check.h"
#include <sys/auxv.h>

int main(void) {
    unsigned char a[300], b[300];
    CHECK(getrandom(a, sizeof a, 0) == sizeof a && getrandom(b, sizeof b, GRND_NONBLOCK) == sizeof b);
    CHECK(memcmp(a, b, sizeof a));
    CHECK(getrandom(a, 16, GRND_RANDOM) == 16);
    FAILS(getrandom(a, 16, 0x800), EINVAL);
    FAILS(getrandom((void *)8, 16, 0), EFAULT);
    OK(getentropy(b, 256));
    FAILS(getentropy(b, 257), EIO);
    uint64_t canary;
    __asm__("mov %%fs:0x28, %0" : "=r"(canary));
    uint64_t *r = (uint64_t *)getauxval(AT_RANDOM);
    printf("getrandom %08x %08x AT_RANDOM %llx canary %llx\n", hash_bytes(a, sizeof a), hash_bytes(b, sizeof b), (unsigned long long)r[0],
           (unsigned long long)canary);
#if __GLIBC_PREREQ(2, 36)
    printf("arc4random %08x %u\n", arc4random(), arc4random_uniform(1000));
    arc4random_buf(a, 100);
    printf("buf %08x\n", hash_bytes(a, 100));
#endif
    srand(time(NULL));
    printf("rand %d malloc %p main %p libc %p\n", rand(), malloc(10), (void *)main, (void *)printf);
    return 0;
}
