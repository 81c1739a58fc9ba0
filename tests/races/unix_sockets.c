// Clients of one unix socket server: accept order, message order, a shared datagram queue with several readers.
// cflags: -pthread
#include "../programs/check.h"
#include <sys/socket.h>
#include <sys/un.h>

static int q[2], taken[2];
static void *reader(void *arg) {
    char b[16];
    while (recv(q[0], b, sizeof b, 0) > 0 && b[0] != 'z') taken[(long)arg]++;
    return NULL;
}

int main(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "s"};
    int l = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(bind(l, (struct sockaddr *)&a, sizeof a));
    OK(listen(l, 16));
    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, q));
    pid_t pids[5];
    for (int i = 0; i < 5; i++)
        if ((pids[i] = OK(fork())) == 0) {
            for (int k = 0; k < 6; k++) {
                int s = socket(AF_UNIX, SOCK_STREAM, 0);
                if (connect(s, (struct sockaddr *)&a, sizeof a) == -1) _exit(1);
                char b[8] = {'a' + i, '0' + k};
                if (send(s, b, 2, 0) != 2 || recv(s, b, 8, 0) != 2) _exit(2);
                close(s);
                if (send(q[1], b, 2, 0) != 2) _exit(3);
            }
            _exit(0);
        }
    pthread_t t[2];
    for (long i = 0; i < 2; i++) OK0(pthread_create(&t[i], NULL, reader, (void *)i));
    char log[100] = "";
    for (int n = 0; n < 30; n++) {
        int s = OK(accept(l, NULL, NULL));
        char b[8] = "";
        CHECK(recv(s, b, 8, 0) == 2);
        strncat(log, b, 2);
        CHECK(send(s, "ok", 2, 0) == 2);
        OK(close(s));
    }
    for (int i = 0; i < 5; i++) wait_exit(pids[i], 0);
    CHECK(send(q[1], "z", 1, 0) == 1 && send(q[1], "z", 1, 0) == 1);
    for (int i = 0; i < 2; i++) OK0(pthread_join(t[i], NULL));
    CHECK(taken[0] + taken[1] == 30);
    printf("%s taken %d %d\n", log, taken[0], taken[1]);
    return 0;
}
