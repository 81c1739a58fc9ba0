// Space reserved, freed and zeroed by ioctl as it was before fallocate(2), in a file that is also mapped.
#include "check.h"
#include <sys/ioctl.h>

// Not among the headers for programs: XFS's, understood for all files (ioctl_preallocate in the kernel).
struct space_resv {
    int16_t l_type, l_whence;
    int64_t l_start, l_len;
    int32_t l_sysid;
    uint32_t l_pid;
    int32_t l_pad[4];
};
#define FS_IOC_RESVSP _IOW('X', 40, struct space_resv)
#define FS_IOC_UNRESVSP _IOW('X', 41, struct space_resv)
#define FS_IOC_ZERO_RANGE _IOW('X', 57, struct space_resv)

static void space(int fd, unsigned long command, off_t start, off_t len) {
    struct space_resv range = {.l_whence = SEEK_SET, .l_start = start, .l_len = len};
    if (ioctl(fd, command, &range) < 0) {
        CHECK(errno == ENOTTY || errno == EOPNOTSUPP);
        SKIP("the file system reserves no space");
    }
}

int main(void) {
    char name[] = "reserve-XXXXXX";
    int fd = OK(mkstemp(name));
    OK(unlink(name));
    enum { SIZE = 64 << 10, PART = 4096 };
    unsigned char block[PART];
    for (int i = 0; i < SIZE / PART; i++) {
        OK(getrandom(block, PART, 0));
        block[0] = i + 1;
        CHECK(write(fd, block, PART) == PART);
    }
    unsigned char *map = OK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHECK(map[3 * PART] == 4 && map[8 * PART] == 9);

    space(fd, FS_IOC_RESVSP, SIZE, SIZE);
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(st.st_size == SIZE);

    space(fd, FS_IOC_UNRESVSP, 3 * PART, 2 * PART);
    CHECK(map[3 * PART] == 0 && map[4 * PART] == 0 && map[5 * PART] == 6);

    space(fd, FS_IOC_ZERO_RANGE, 8 * PART, PART);
    CHECK(map[8 * PART] == 0 && map[9 * PART] == 10);

    uint64_t hash = 0;
    for (int i = 0; i < SIZE; i++) hash = hash * 31 + map[i];
    printf("blocks %lld hash %llx\n", (long long)st.st_blocks, (unsigned long long)hash);
    return 0;
}
