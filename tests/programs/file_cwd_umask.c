// chdir, fchdir, getcwd, umask; the working directory is shared by threads and copied by fork.
// cflags: -pthread
#include "check.h"

static void *in_thread(void *arg) {
    (void)arg;
    OK(chdir("sub"));
    umask(077);
    return NULL;
}

int main(void) {
    char start[PATH_MAX], here[PATH_MAX];
    CHECK(getcwd(start, sizeof start));
    FAILS(syscall(SYS_getcwd, here, 1), ERANGE);
    umask(022);
    OK(mkdir("sub", 0777));
    struct stat st;
    OK(stat("sub", &st));
    CHECK((st.st_mode & 0777) == 0755);
    pid_t child = OK(fork());
    if (child == 0) {
        OK(chdir("sub"));
        CHECK(umask(0) == 022);
        _exit(0);
    }
    wait_exit(child, 0);
    CHECK(getcwd(here, sizeof here) && strcmp(here, start) == 0);
    int top = OK(open(".", O_PATH | O_DIRECTORY));
    pthread_t t;
    OK0(pthread_create(&t, NULL, in_thread, NULL));
    OK0(pthread_join(t, NULL));
    CHECK(getcwd(here, sizeof here) && strncmp(here, start, strlen(start)) == 0 && strcmp(here + strlen(start), "/sub") == 0);
    CHECK(umask(0) == 077);
    OK(rmdir("../sub"));
    FAILS(syscall(SYS_getcwd, here, sizeof here), ENOENT);
    FAILS(open("x", O_CREAT | O_WRONLY, 0600), ENOENT);
    OK(fchdir(top));
    FAILS(chdir("nowhere"), ENOENT);
    CHECK(getcwd(here, sizeof here) && strcmp(here, start) == 0);
    printf("cwd %s\n", here);
    return 0;
}
