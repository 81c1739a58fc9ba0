// TCP on loopback, IPv4 and IPv6: ephemeral ports, options, non-blocking connect, urgent data, reset, shutdown, 1 MB both ways.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void talk(int family) {
    int l = socket(family, SOCK_STREAM, 0), one = 1;
    struct sockaddr_storage a = {.ss_family = family};
    socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (family == AF_INET) ((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else ((struct sockaddr_in6 *)&a)->sin6_addr = in6addr_loopback;
    if (l == -1 || bind(l, (struct sockaddr *)&a, len) == -1) {
        printf("no family %d\n", family);
        return;
    }
    OK(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    OK(listen(l, 8));
    OK(getsockname(l, (struct sockaddr *)&a, &len));
    printf("port %d\n", ntohs(((struct sockaddr_in *)&a)->sin_port));
    pid_t child = OK(fork());
    if (child == 0) {
        int c = OK(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
        if (connect(c, (struct sockaddr *)&a, len) == -1) {
            CHECK(errno == EINPROGRESS);
            struct pollfd p = {c, POLLOUT, 0};
            CHECK(poll(&p, 1, 5000) == 1);
            int e;
            socklen_t el = sizeof e;
            OK(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &el));
            CHECK(e == 0);
        }
        OK(fcntl(c, F_SETFL, 0));
        OK(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
        static char buf[1 << 20], back[1 << 20];
        for (size_t i = 0; i < sizeof buf; i++) buf[i] = i * 7;
        memcpy(buf, &(uint32_t){noise_u32()}, 4);
        pid_t writer = OK(fork());
        if (writer == 0) {
            write_all(c, buf, sizeof buf);
            OK(shutdown(c, SHUT_WR));
            _exit(0);
        }
        CHECK(read_all(c, back, sizeof back) == sizeof back);
        CHECK(memcmp(buf, back, sizeof buf) == 0);
        char z;
        CHECK(read(c, &z, 1) == 0);
        wait_exit(writer, 0);
        _exit(0);
    }
    struct sockaddr_storage peer;
    socklen_t plen = sizeof peer;
    int s = OK(accept(l, (struct sockaddr *)&peer, &plen));
    printf("peer port %d\n", ntohs(((struct sockaddr_in *)&peer)->sin_port));
    static char buf[65536];
    ssize_t n;
    uint32_t h = 0, reads = 0;
    while ((n = OK(recv(s, buf, sizeof buf, 0))) > 0) {
        h = h * 31 + hash_bytes(buf, n);
        reads++;
        write_all(s, buf, n);
    }
    printf("family %d: %u reads, hash %08x\n", family, reads, h);
    struct tcp_info ti;
    socklen_t tl = sizeof ti;
    OK(getsockopt(s, IPPROTO_TCP, TCP_INFO, &ti, &tl));
    printf("rtt %u\n", ti.tcpi_rtt);
    OK(close(s));
    wait_exit(child, 0);

    // Urgent data, then a reset by SO_LINGER 0.
    int c = OK(socket(family, SOCK_STREAM, 0));
    OK(connect(c, (struct sockaddr *)&a, len));
    s = OK(accept(l, NULL, NULL));
    CHECK(send(c, "ab!", 3, MSG_OOB) == 3);
    struct pollfd p = {s, POLLPRI, 0};
    CHECK(poll(&p, 1, 5000) == 1 && (p.revents & POLLPRI));
    char b[8];
    CHECK(recv(s, b, 8, MSG_OOB) == 1 && b[0] == '!');
    CHECK(recv(s, b, 8, 0) == 2);
    int mark = 0;
    OK(ioctl(s, SIOCATMARK, &mark));
    CHECK(mark == 1);
    struct linger lg = {1, 0};
    OK(setsockopt(c, SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    OK(close(c));
    p.events = POLLIN;
    CHECK(poll(&p, 1, 5000) == 1);
    FAILS(recv(s, b, 8, 0), ECONNRESET);
    OK(close(l));
    c = OK(socket(family, SOCK_STREAM, 0));
    FAILS(connect(c, (struct sockaddr *)&a, len), ECONNREFUSED);
    struct timeval tv = {0, 30000};
    OK(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    OK(close(c));
    OK(close(s));
}

int main(void) {
    talk(AF_INET);
    talk(AF_INET6);
    return 0;
}
