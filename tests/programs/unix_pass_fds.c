// SCM_RIGHTS and SCM_CREDENTIALS: descriptors passed between processes, truncated control data, MSG_CMSG_CLOEXEC.
#include "check.h"
#include <sys/socket.h>

static void send_fds(int s, const int *fds, int n, const char *text) {
    char control[CMSG_SPACE(sizeof(int) * 8)] = {0};
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    CHECK(sendmsg(s, &m, 0) == (ssize_t)v.iov_len);
}

static int get_fds(int s, int *fds, int room, int flags, int *got_flags, struct ucred *cred) {
    char control[CMSG_SPACE(sizeof(int) * 8) + CMSG_SPACE(sizeof(struct ucred))], text[64];
    struct iovec v = {text, sizeof text};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
        .msg_controllen = room ? CMSG_SPACE(sizeof(int) * room) : sizeof control};
    CHECK(recvmsg(s, &m, flags) > 0);
    *got_flags = m.msg_flags;
    int n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_type == SCM_RIGHTS) {
            n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(c), n * sizeof(int));
        } else if (c->cmsg_type == SCM_CREDENTIALS) memcpy(cred, CMSG_DATA(c), sizeof *cred);
    }
    return n;
}

int main(void) {
    int sv[2], fds[8], flags;
    struct ucred cred = {0};
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    pid_t child = OK(fork());
    if (child == 0) {
        OK(close(sv[0]));
        char name[32];
        uint32_t r = noise_u32();
        snprintf(name, sizeof name, "f%08x", r);
        int f = OK(open(name, O_RDWR | O_CREAT, 0600)), p[2];
        OK(pipe(p));
        write_all(f, name, 9);
        int list[3] = {f, p[0], p[1]};
        send_fds(sv[1], list, 3, "three");
        OK(close(f));
        OK(close(p[1]));
        char c;
        CHECK(read(p[0], &c, 1) == 1 && c == 'k'); // written by the parent to the passed end
        send_fds(sv[1], list + 1, 1, "one");
        int many[4] = {p[0], p[0], p[0], p[0]};
        send_fds(sv[1], many, 4, "four");
        CHECK(read(sv[1], &c, 1) == 1);
        _exit(0);
    }
    OK(close(sv[1]));
    CHECK(get_fds(sv[0], fds, 0, 0, &flags, &cred) == 3);
    char name[10] = "";
    CHECK(pread(fds[0], name, 9, 0) == 9 && access(name, F_OK) == 0);
    CHECK(lseek(fds[0], 0, SEEK_CUR) == 9);
    write_all(fds[2], "k", 1);
    int one = 1;
    OK(setsockopt(sv[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    int cl[8];
    CHECK(get_fds(sv[0], cl, 0, MSG_CMSG_CLOEXEC, &flags, &cred) == 1);
    CHECK(fcntl(cl[0], F_GETFD) == FD_CLOEXEC && (fcntl(fds[0], F_GETFD) & FD_CLOEXEC) == 0);
    int n = get_fds(sv[0], cl, 1, 0, &flags, &cred);
    CHECK(n <= 2 && (flags & MSG_CTRUNC));
    write_all(sv[0], "x", 1);
    wait_exit(child, 0);
    CHECK(cred.pid == 0 || cred.pid == child);
    printf("file %s fds %d %d %d credentials of %d\n", name, fds[0], fds[1], fds[2], cred.pid);
    return 0;
}
