// socketpair that fails: with most errors the descriptors that there might have been are in memory all the same.
#include "check.h"
#include <sys/socket.h>

static void fails(int family, int type, int protocol, int error, int writes) {
    // Any two descriptors are the next ones.
    int noise = noise_u32() % 50, held[50], sv[2] = {-7, -7};
    for (int i = 0; i < noise; i++) held[i] = OK(dup(0));
    FAILS(socketpair(family, type, protocol, sv), error);
    if (writes) CHECK(sv[0] >= 3 + noise && sv[1] > sv[0]);
    else CHECK(sv[0] == -7 && sv[1] == -7);
    printf("%d %d\n", sv[0], sv[1]);
    for (int i = 0; i < noise; i++) OK(close(held[i]));
}

int main(void) {
    for (int i = 0; i < 5; i++) {
        fails(AF_UNIX, SOCK_STREAM, -1, EPROTONOSUPPORT, 1);
        fails(-1, SOCK_STREAM, 0, EAFNOSUPPORT, 1);
        fails(AF_UNIX, 9, 0, ESOCKTNOSUPPORT, 1);
        fails(AF_INET, SOCK_STREAM, 0, EOPNOTSUPP, 1);
        fails(AF_UNIX, SOCK_STREAM | 0x100000, 0, EINVAL, 0);
    }
    FAILS(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8), EFAULT);
    return 0;
}
