// AF_UNIX datagram and seqpacket: message borders, MSG_TRUNC, sender addresses, queue limits, sendmmsg and recvmmsg.
#include "check.h"
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un path(const char *p) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, p);
    return a;
}

int main(void) {
    struct sockaddr_un a = path("a"), b = path("b"), from;
    int x = OK(socket(AF_UNIX, SOCK_DGRAM, 0)), y = OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    OK(bind(x, (struct sockaddr *)&a, sizeof a));
    OK(bind(y, (struct sockaddr *)&b, sizeof b));
    char buf[100];
    uint32_t r = noise_u32();
    CHECK(sendto(x, &r, 4, 0, (struct sockaddr *)&b, sizeof b) == 4);
    CHECK(sendto(x, "second message", 14, 0, (struct sockaddr *)&b, sizeof b) == 14);
    socklen_t len = sizeof from;
    CHECK(recvfrom(y, buf, sizeof buf, 0, (struct sockaddr *)&from, &len) == 4 && memcmp(buf, &r, 4) == 0);
    CHECK(strcmp(from.sun_path, "a") == 0);
    CHECK(recv(y, buf, 3, MSG_TRUNC) == 14);
    FAILS(recv(y, buf, 3, 0), EAGAIN);
    OK(connect(y, (struct sockaddr *)&a, sizeof a));
    int sent = 0;
    while (send(y, buf, 100, 0) == 100) sent++;
    CHECK(errno == EAGAIN && sent > 0);
    for (int i = 0; i < sent; i++) CHECK(recv(x, buf, 100, MSG_DONTWAIT) == 100);
    FAILS(recv(x, buf, 100, MSG_DONTWAIT), EAGAIN);

    struct mmsghdr out[3], in[5];
    struct iovec ov[3], iv[5];
    char texts[3][16], got[5][16];
    memset(out, 0, sizeof out);
    memset(in, 0, sizeof in);
    for (int i = 0; i < 3; i++) {
        ov[i] = (struct iovec){texts[i], snprintf(texts[i], 16, "m%d-%04x", i, noise_u32() & 0xffff)};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &ov[i], .msg_iovlen = 1};
    }
    for (int i = 0; i < 5; i++) {
        iv[i] = (struct iovec){got[i], i == 1 ? 2 : 16};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &iv[i], .msg_iovlen = 1};
    }
    CHECK(sendmmsg(y, out, 3, 0) == 3);
    struct timespec t = {1, 0};
    CHECK(recvmmsg(x, in, 5, MSG_WAITFORONE, &t) == 3);
    CHECK(in[0].msg_len == 7 && in[1].msg_len == 2 && in[2].msg_len == 7);
    CHECK(in[1].msg_hdr.msg_flags & MSG_TRUNC);
    CHECK(memcmp(got[2], texts[2], 7) == 0);

    int p[2];
    OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
    CHECK(send(p[0], "one", 3, 0) == 3 && send(p[0], "two!", 4, 0) == 4);
    CHECK(read(p[1], buf, sizeof buf) == 3);
    CHECK(recv(p[1], buf, 2, 0) == 2);
    OK(close(p[0]));
    CHECK(read(p[1], buf, sizeof buf) == 0);
    FAILS(sendto(x, "z", 1, 0, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "none"}, sizeof a), ENOENT);
    printf("queue held %d, %s %s value %08x\n", sent, texts[0], texts[2], r);
    return 0;
}
