// Sockets to the machine's host, and the device that says which address this one has there.
#include "check.h"
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(void) {
    int dev = open("/dev/vsock", O_RDONLY);
    unsigned cid[3] = {7, 7, 7};
    if (dev >= 0 && ioctl(dev, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid[1]) < 0)
        CHECK(errno == EADDRNOTAVAIL || errno == ENOTTY);
    CHECK(cid[0] == 7 && cid[2] == 7);
    // At a socket the kernel knows the command as well, or refuses it.
    int sock = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (sock >= 0) {
        struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
        OK(bind(sock, (struct sockaddr *)&addr, sizeof addr));
        socklen_t len = sizeof addr;
        OK(getsockname(sock, (struct sockaddr *)&addr, &len));
        CHECK(len == sizeof addr && addr.svm_family == AF_VSOCK);
        unsigned long long size = 0;
        len = sizeof size;
        OK(getsockopt(sock, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &len));
        CHECK(len == sizeof size);
        printf("%llu\n", size);
    }
    printf("%d %u\n", dev, cid[1]);
    noise("end");
    return 0;
}
