// Commands of ioctl for network devices: ethtool, bridges, filters of taps, in a network namespace of its own; and commands that no file knows.
// skip-native-compare
#include "check.h"
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void told(const char *what, int r) {
    int e = errno;
    printf("%s gives %s\n", what, r >= 0 ? "an answer" : strerrorname_np(e));
}

int main(void) {
    if (unshare(CLONE_NEWNET) == -1 && unshare(CLONE_NEWUSER | CLONE_NEWNET) == -1) SKIP("no network namespace");
    int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq r;
    memset(&r, 0, sizeof r);
    strcpy(r.ifr_name, "lo");
    struct ethtool_value link = {.cmd = ETHTOOL_GLINK, .data = 77};
    r.ifr_data = (void *)&link;
    OK(ioctl(fd, SIOCETHTOOL, &r));
    CHECK(link.data <= 1);
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    r.ifr_data = (void *)&driver;
    told("GDRVINFO", ioctl(fd, SIOCETHTOOL, &r));
    struct ethtool_ts_info stamps = {.cmd = ETHTOOL_GET_TS_INFO};
    r.ifr_data = (void *)&stamps;
    told("GET_TS_INFO", ioctl(fd, SIOCETHTOOL, &r));
    printf("link %u, %s, %x %x\n", link.data, driver.driver, stamps.so_timestamping, stamps.tx_types);
    r.ifr_data = NULL;
    FAILS(ioctl(fd, SIOCETHTOOL, &r), EFAULT);

    char bridge[IFNAMSIZ] = "scribebr0";
    int made = ioctl(fd, SIOCBRADDBR, bridge);
    told("BRADDBR", made);
    strcpy(r.ifr_name, bridge);
    if (made == 0) {
        r.ifr_ifindex = 1;
        told("BRADDIF", ioctl(fd, SIOCBRADDIF, &r));
        OK(ioctl(fd, SIOCGIFINDEX, &r));
        printf("index %d\n", r.ifr_ifindex);
        r.ifr_ifindex = 1;
        told("BRDELIF", ioctl(fd, SIOCBRDELIF, &r));
        OK(ioctl(fd, SIOCBRDELBR, bridge));
    }

    int tap = open("/dev/net/tun", O_RDWR);
    memset(&r, 0, sizeof r);
    r.ifr_flags = IFF_TAP;
    if (tap >= 0 && ioctl(tap, TUNSETIFF, &r) == 0) {
        struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
        struct sock_fprog in = {1, &all}, out = {9, (void *)9};
        OK(ioctl(tap, TUNATTACHFILTER, &in));
        OK(ioctl(tap, TUNGETFILTER, &out));
        printf("tap %s, filter %d\n", r.ifr_name, out.len);
        OK(ioctl(tap, TUNDETACHFILTER, NULL));
    }

    // Unknown everywhere.
    char block[64];
    memset(block, 'x', sizeof block);
    FAILS(ioctl(fd, 0xc0406f99, block), ENOTTY);
    FAILS(ioctl(0x7777, 0xc0406f99, block), EBADF);
    FAILS(ioctl(fd, 0x8b21, block), ENOTTY); // wireless
    for (size_t i = 0; i < sizeof block; i++) CHECK(block[i] == 'x');
    noise("end");
    return 0;
}
