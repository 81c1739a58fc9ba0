// Commands of ioctl for devices that a file is not: refused, whoever knows what they mean.
#include "check.h"
#include <linux/mtio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(void) {
    char buf[4096];
    int pipes[2], file = OK(open("file", O_RDWR | O_CREAT, 0600));
    int sock = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(pipe(pipes));
    const int fds[] = {pipes[0], file, sock, OK(open("/dev/null", O_RDWR))};
    for (int i = 0; i < 4; i++) {
        FAILS(ioctl(fds[i], MTIOCGET, buf), ENOTTY);
        FAILS(ioctl(fds[i], _IOWR('~', 99, char[100]), buf), ENOTTY);
    }
    FAILS(ioctl(-1, _IO('~', 1)), EBADF);
    FAILS(ioctl(99, MTIOCGET, NULL), EBADF);
    noise("end");
    return 0;
}
