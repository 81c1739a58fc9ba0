// After fork private memory is separate, shared anonymous memory is common, descriptors share offsets, stdio buffers are copied.
#include "check.h"

static int global = 1;

int main(void) {
    int local = 1, *heap = malloc(sizeof *heap);
    *heap = 1;
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
    write_all(fd, "0123456789", 10);
    OK(lseek(fd, 0, SEEK_SET));
    FILE *out = fopen("buffered", "w");
    fprintf(out, "once %d\n", getpid());
    pid_t child = OK(fork());
    if (child == 0) {
        global = local = *heap = 2;
        shared[0] = noise_u32() | 1;
        shared[1] = getpid();
        char b[4];
        CHECK(read(fd, b, 4) == 4);
        fclose(out);
        pid_t inner = OK(fork());
        if (inner == 0) {
            shared[2] = getppid();
            global++;
            _exit(global);
        }
        wait_exit(inner, 3);
        CHECK(global == 2);
        _exit(0);
    }
    wait_exit(child, 0);
    CHECK(global == 1 && local == 1 && *heap == 1);
    CHECK(shared[0] && shared[1] == child && shared[2] == child);
    CHECK(lseek(fd, 0, SEEK_CUR) == 4);
    fclose(out);
    struct stat st;
    OK(stat("buffered", &st));
    printf("shared %08x, buffered file %ld bytes\n", shared[0], (long)st.st_size);
    return 0;
}
