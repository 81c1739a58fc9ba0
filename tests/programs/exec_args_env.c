// execve: arguments, environment, auxv, close-on-exec, what survives (pid, cwd, umask, mask, ignored signals) and what not (handlers).
#include "check.h"
#include <sys/auxv.h>

static void on(int s) { (void)s; }

int main(int argc, char **argv) {
    if (argc == 1) {
        char pid[16], fd[16], keep[16], rnd[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        int f = OK(open("f", O_CREAT | O_RDWR | O_CLOEXEC, 0600)), k = OK(dup(f));
        snprintf(fd, sizeof fd, "%d", f);
        snprintf(keep, sizeof keep, "%d", k);
        snprintf(rnd, sizeof rnd, "%08x", noise_u32());
        write_all(k, rnd, 8);
        umask(031);
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, on);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        OK(sigprocmask(SIG_BLOCK, &set, NULL));
        raise(SIGTERM); // stays pending over exec
        alarm(100);
        char *av[] = {argv[0], "again", pid, fd, keep, "", NULL}, *ev[] = {"A=1", "EMPTY=", rnd, NULL};
        char exe[PATH_MAX];
        ssize_t n = OK(readlink("/proc/self/exe", exe, sizeof exe - 1));
        exe[n] = 0;
        OK(execve(exe, av, ev));
    }
    CHECK(argc == 6 && strcmp(argv[1], "again") == 0 && argv[5][0] == 0);
    CHECK(atoi(argv[2]) == getpid());
    FAILS(fcntl(atoi(argv[3]), F_GETFD), EBADF);
    char buf[16] = "";
    CHECK(pread(atoi(argv[4]), buf, 8, 0) == 8);
    extern char **environ;
    CHECK(strcmp(environ[0], "A=1") == 0 && strcmp(environ[2], buf) == 0 && strcmp(getenv("EMPTY"), "") == 0 && !environ[3]);
    CHECK(umask(0) == 031);
    struct sigaction sa;
    OK(sigaction(SIGUSR1, NULL, &sa));
    CHECK(sa.sa_handler == SIG_IGN);
    OK(sigaction(SIGUSR2, NULL, &sa));
    CHECK(sa.sa_handler == SIG_DFL);
    sigset_t set, pend;
    OK(sigprocmask(SIG_BLOCK, NULL, &set));
    OK(sigpending(&pend));
    CHECK(sigismember(&set, SIGTERM) && sigismember(&pend, SIGTERM));
    CHECK(alarm(0) > 90);
    unsigned char *r = (unsigned char *)getauxval(AT_RANDOM);
    CHECK(r && getauxval(AT_PAGESZ) == 4096 && getauxval(AT_ENTRY) && getauxval(AT_UID) == getuid());
    printf("AT_RANDOM %02x%02x%02x%02x entry %lx platform %s execfn hash %08x\n", r[0], r[1], r[2], r[3], getauxval(AT_ENTRY),
           (char *)getauxval(AT_PLATFORM), hash_bytes((char *)getauxval(AT_EXECFN), strlen((char *)getauxval(AT_EXECFN))));
    return 0;
}
