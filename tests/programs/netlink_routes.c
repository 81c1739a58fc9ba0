// A netlink dump of routes, links and addresses, and getifaddrs on top of it.
#include "check.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int dump(int s, int type) {
    static uint32_t seq;
    struct { struct nlmsghdr h; struct rtgenmsg g; } req = {
        .h = {.nlmsg_len = sizeof req, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = ++seq},
        .g = {.rtgen_family = AF_UNSPEC}};
    CHECK(send(s, &req, sizeof req, 0) == sizeof req);
    static char buf[65536] __attribute__((aligned(8)));
    int count = 0;
    for (;;) {
        ssize_t n = OK(recv(s, buf, sizeof buf, 0));
        for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            CHECK(h->nlmsg_seq == seq && h->nlmsg_type != NLMSG_ERROR);
            if (h->nlmsg_type == NLMSG_DONE) return count;
            count++;
        }
    }
}

int main(void) {
    int s = OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    struct sockaddr_nl a = {.nl_family = AF_NETLINK};
    OK(bind(s, (struct sockaddr *)&a, sizeof a));
    socklen_t len = sizeof a;
    OK(getsockname(s, (struct sockaddr *)&a, &len));
    printf("netlink port %u, links %d", a.nl_pid, dump(s, RTM_GETLINK));
    printf(", addresses %d", dump(s, RTM_GETADDR));
    printf(", routes %d\n", dump(s, RTM_GETROUTE));
    struct ifaddrs *list;
    OK(getifaddrs(&list));
    int n = 0;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) n++;
    freeifaddrs(list);
    struct ifreq r = {.ifr_name = "lo"};
    int d = OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(ioctl(d, SIOCGIFFLAGS, &r));
    CHECK(r.ifr_flags & IFF_LOOPBACK);
    printf("getifaddrs %d, lo is %u\n", n, if_nametoindex("lo"));
    return 0;
}
