// process_vm_writev minds what pages are for, in the caller's memory and in that of others, up to where it may not write.
#include "check.h"

int main(void) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *fixed = OK(mmap(NULL, 4096, PROT_READ, flags, -1, 0));
    char *open_ = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags, -1, 0));
    int go[2];
    OK(pipe(go));
    pid_t child = OK(fork());
    if (child == 0) {
        char c;
        OK(read(go[0], &c, 1));
        CHECK(!fixed[0] && !strcmp(open_, "hello"));
        exit(3);
    }
    struct iovec from = {"hello", 6};
    for (int i = 0; i < 2; i++) {
        pid_t pid = i ? child : getpid();
        FAILS(process_vm_writev(pid, &from, 1, &(struct iovec){fixed, 6}, 1, 0), EFAULT);
        CHECK(process_vm_writev(pid, &from, 1, &(struct iovec){open_, 6}, 1, 0) == 6);
        struct iovec two[2] = {{open_ + 64, 2}, {fixed, 4}};
        CHECK(process_vm_writev(pid, &from, 1, two, 2, 0) == 2);
    }
    printf("%s %s %d\n", open_, open_ + 64, fixed[0]);
    OK(write(go[1], "x", 1));
    wait_exit(child, 3);
    noise("end");
}
