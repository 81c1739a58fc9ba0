// A ping of the loopback by a raw ICMP socket, or by an ICMP datagram socket; skipped where neither may be made.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

static uint16_t sum(const uint16_t *p, int n) {
    uint32_t s = 0;
    while (n--) s += *p++;
    while (s >> 16) s = (s & 0xffff) + (s >> 16);
    return ~s;
}

int main(void) {
    int raw = 1, s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (s == -1) {
        CHECK(errno == EPERM || errno == EACCES);
        raw = 0;
        s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
        if (s == -1) SKIP("no ICMP sockets");
    }
    struct { struct icmphdr h; uint32_t data[4]; } p = {.h = {.type = ICMP_ECHO}};
    p.h.un.echo.id = getpid();
    p.h.un.echo.sequence = 1;
    for (int i = 0; i < 4; i++) p.data[i] = noise_u32();
    p.h.checksum = sum((uint16_t *)&p, sizeof p / 2);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {2, 0};
    OK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    CHECK(sendto(s, &p, sizeof p, 0, (struct sockaddr *)&to, sizeof to) == sizeof p);
    for (int tries = 0; tries < 10; tries++) {
        unsigned char buf[256];
        ssize_t n = recv(s, buf, sizeof buf, 0);
        if (n == -1) SKIP("no answer");
        unsigned char *at = raw ? buf + (buf[0] & 15) * 4 : buf;
        struct icmphdr *h = (struct icmphdr *)at;
        if (h->type != ICMP_ECHOREPLY || memcmp(at + sizeof *h, p.data, sizeof p.data)) continue;
        printf("answer to %08x, id %d, raw %d\n", p.data[0], h->un.echo.id, raw);
        return 0;
    }
    SKIP("no answer of ours");
}
