// AF_UNIX stream sockets: path and abstract addresses, accept4, credentials of the peer, shutdown, half close, refusals.
#include "check.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <stddef.h>

static socklen_t address(struct sockaddr_un *a, const char *name, int abstract) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path + abstract, name);
    return offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name);
}

static void serve(struct sockaddr_un *a, socklen_t len) {
    int l = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    OK(bind(l, (struct sockaddr *)a, len));
    OK(listen(l, 5));
    pid_t child = OK(fork());
    if (child == 0) {
        OK(close(l));
        int c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
        OK(connect(c, (struct sockaddr *)a, len));
        uint32_t r = noise_u32(), back;
        CHECK(send(c, &r, 4, 0) == 4);
        CHECK(recv(c, &back, 4, MSG_WAITALL) == 4 && back == r + 1);
        OK(shutdown(c, SHUT_WR));
        char b[8];
        CHECK(recv(c, b, 8, 0) == 3 && recv(c, b, 8, 0) == 0);
        _exit(0);
    }
    struct sockaddr_un peer;
    socklen_t plen = sizeof peer;
    int s = OK(accept4(l, (struct sockaddr *)&peer, &plen, SOCK_CLOEXEC));
    CHECK(fcntl(s, F_GETFD) == FD_CLOEXEC);
    struct ucred cred;
    socklen_t clen = sizeof cred;
    OK(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &clen));
    CHECK(cred.pid == child && cred.uid == geteuid());
    uint32_t v;
    CHECK(recv(s, &v, 4, MSG_PEEK) == 4);
    printf("peer %d said %08x\n", cred.pid, v);
    CHECK(recv(s, &v, 4, 0) == 4);
    v++;
    CHECK(send(s, &v, 4, 0) == 4);
    char b[4];
    CHECK(recv(s, b, 4, 0) == 0);
    CHECK(send(s, "end", 3, 0) == 3);
    OK(close(s));
    wait_exit(child, 0);
    OK(close(l));
}

int main(void) {
    struct sockaddr_un a;
    socklen_t len = address(&a, "sock", 0);
    serve(&a, len);
    int c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(connect(c, (struct sockaddr *)&a, len), ECONNREFUSED);
    FAILS(bind(c, (struct sockaddr *)&a, len), EADDRINUSE);
    char name[64];
    snprintf(name, sizeof name, "scribe-%d-%08x", getpid(), noise_u32());
    len = address(&a, name, 1);
    serve(&a, len);
    OK(bind(c, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX}, sizeof(sa_family_t))); // autobind
    struct sockaddr_un got;
    socklen_t glen = sizeof got;
    OK(getsockname(c, (struct sockaddr *)&got, &glen));
    CHECK(got.sun_path[0] == 0 && glen > sizeof(sa_family_t));
    printf("bound to %.5s\n", got.sun_path + 1);
    int type;
    socklen_t tlen = sizeof type;
    OK(getsockopt(c, SOL_SOCKET, SO_TYPE, &type, &tlen));
    CHECK(type == SOCK_STREAM);
    signal(SIGPIPE, SIG_IGN);
    FAILS(send(c, "x", 1, 0), ENOTCONN);
    int sv[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    OK(close(sv[1]));
    FAILS(send(sv[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    return 0;
}
