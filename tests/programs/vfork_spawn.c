// vfork shares memory and suspends the parent; posix_spawn with file actions, attributes and a failing program; system and popen.
#include "check.h"
#include <spawn.h>

extern char **environ;

int main(void) {
    volatile int changed = 0;
    pid_t parent = getpid();
    pid_t c = vfork();
    CHECK(c != -1);
    if (c == 0) {
        changed = syscall(SYS_getppid) == parent;
        _exit(4);
    }
    CHECK(changed == 1);
    wait_exit(c, 4);
    c = vfork();
    if (c == 0) {
        execl("/bin/sh", "sh", "-c", "echo from sh $$; exit 9", (char *)NULL);
        _exit(1);
    }
    wait_exit(c, 9);

    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    OK0(posix_spawn_file_actions_init(&fa));
    OK0(posix_spawnattr_init(&at));
    OK0(posix_spawn_file_actions_addopen(&fa, 1, "out", O_WRONLY | O_CREAT, 0600));
    OK0(posix_spawn_file_actions_adddup2(&fa, 1, 2));
    OK0(posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK));
    OK0(posix_spawnattr_setpgroup(&at, 0));
    char text[32];
    snprintf(text, sizeof text, "echo %08x", noise_u32());
    char *argv[] = {"sh", "-c", text, NULL};
    OK0(posix_spawnp(&c, "sh", &fa, &at, argv, environ));
    wait_exit(c, 0);
    char buf[64] = "";
    int fd = OK(open("out", O_RDONLY));
    CHECK(read(fd, buf, sizeof buf) == 9 && memcmp(buf, text + 5, 8) == 0);
    char *none[] = {"none", NULL};
    CHECK(posix_spawn(&c, "/no/such/program", NULL, NULL, none, environ) == ENOENT);
    FAILS(wait(NULL), ECHILD);

    int status = system("exit 3");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    FILE *p = popen("echo $$; cat", "r");
    CHECK(p && fgets(buf, sizeof buf, p));
    printf("popen shell %s", buf);
    while (fgets(buf, sizeof buf, p)) {}
    CHECK(pclose(p) == 0);
    printf("spawned %s\n", text + 5);
    return 0;
}
