// UDP on loopback: sendto and recvfrom, sendmsg with several buffers, IP_PKTINFO, MSG_PEEK and MSG_TRUNC, ECONNREFUSED, SO_RCVTIMEO, timestamps.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

int main(void) {
    int a = OK(socket(AF_INET, SOCK_DGRAM, 0)), b = OK(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    OK(bind(a, (struct sockaddr *)&at, sizeof at));
    socklen_t len = sizeof at;
    OK(getsockname(a, (struct sockaddr *)&at, &len));
    int one = 1;
    OK(setsockopt(a, IPPROTO_IP, IP_PKTINFO, &one, sizeof one));
    OK(setsockopt(a, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one));
    uint32_t r = noise_u32(), got[2];
    struct iovec v[2] = {{&r, 4}, {"tail", 4}};
    struct msghdr m = {.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = v, .msg_iovlen = 2};
    CHECK(sendmsg(b, &m, 0) == 8);
    char control[256];
    struct iovec w = {got, 8};
    struct msghdr in = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &w, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(a, &in, MSG_PEEK) == 8);
    in.msg_controllen = sizeof control;
    CHECK(recvmsg(a, &in, 0) == 8 && got[0] == r);
    int info = 0, stamp = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&in); c; c = CMSG_NXTHDR(&in, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *p = (struct in_pktinfo *)CMSG_DATA(c);
            CHECK(p->ipi_addr.s_addr == at.sin_addr.s_addr);
            info = 1;
        }
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec *t = (struct timespec *)CMSG_DATA(c);
            printf("stamped %ld.%09ld\n", (long)t->tv_sec, t->tv_nsec);
            stamp = 1;
        }
    }
    CHECK(info && stamp);
    printf("from port %d value %08x\n", ntohs(from.sin_port), got[0]);
    CHECK(sendto(a, "0123456789", 10, 0, (struct sockaddr *)&from, sizeof from) == 10);
    char c[4];
    CHECK(recv(b, c, 4, MSG_PEEK | MSG_TRUNC) == 10);
    CHECK(recv(b, c, 4, 0) == 4);
    struct timeval tv = {0, 20000};
    OK(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    int64_t start = now_ns();
    FAILS(recv(b, c, 4, 0), EAGAIN);
    CHECK(now_ns() - start >= 15000000);
    OK(connect(b, (struct sockaddr *)&at, sizeof at));
    OK(close(a));
    CHECK(send(b, "x", 1, 0) == 1);
    FAILS(recv(b, c, 4, 0), ECONNREFUSED);
    int size = 0;
    socklen_t sl = sizeof size;
    OK(getsockopt(b, SOL_SOCKET, SO_RCVBUF, &size, &sl));
    printf("receive buffer %d\n", size);
    FAILS(getsockopt(b, SOL_SOCKET, 9999, &size, &sl), ENOPROTOOPT);
    FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    FAILS(socket(12345, SOCK_STREAM, 0), EAFNOSUPPORT);
    return 0;
}
