// A file whose content changes while its size and time of modification are put back, as copying tools do,
// mapped before and after.
#include "check.h"

int main(void) {
    struct timespec old[2] = {{1000000000, 5}, {1000000000, 5}};
    for (int round = 0; round < 20; round++) {
        char text[64];
        snprintf(text, sizeof text, "round %4d value %08x", round, noise_u32());
        int fd = OK(open("same", O_RDWR | O_CREAT, 0600));
        CHECK(write(fd, text, sizeof text) == sizeof text);
        OK(futimens(fd, old));
        OK(close(fd));
        fd = OK(open("same", O_RDONLY));
        char *map = OK(mmap(NULL, sizeof text, PROT_READ, MAP_PRIVATE, fd, 0));
        OK(close(fd));
        CHECK(memcmp(map, text, sizeof text) == 0);
        printf("%s\n", map);
        OK(munmap(map, sizeof text));
    }
    OK(unlink("same"));
    return 0;
}
