// Calls that may wait, made while another thread computes and wants its turn: whole writes, MSG_WAITALL, EPIPE with one SIGPIPE, epoll.
// cflags: -pthread
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { BIG = 1 << 18 };
static volatile int stop, pipes;
static volatile unsigned long count;
static char out[BIG], in[BIG];

// Not too short a loop: replay looks at each round of it.
static void *spin(void *arg) {
    while (!stop) for (int i = 0; i < 20; i++) count = count / 3 + 1000000007;
    return arg;
}
static void on_pipe(int sig) { (void)sig; pipes++; }

static void *reads_all(void *arg) {
    int fd = (int)(long)arg;
    long sum = 0;
    char b[3000];
    for (ssize_t n; (n = read(fd, b, sizeof b)) > 0;) sum += n;
    return (void *)sum;
}

// A write of more than fits returns when all of it is written.
static void whole(int to, int from, int by_send) {
    pthread_t t;
    void *sum;
    OK0(pthread_create(&t, NULL, reads_all, (void *)(long)from));
    CHECK((by_send ? send(to, out, BIG, 0) : write(to, out, BIG)) == BIG);
    for (int i = 0; i < 20; i++) CHECK(write(to, out, 10) == 10);
    if (shutdown(to, SHUT_WR) != 0) OK(close(to));
    OK0(pthread_join(t, &sum));
    CHECK((long)sum == BIG + 200);
}

static void tcp(int fds[2]) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(l, (struct sockaddr *)&a, sizeof a));
    OK(listen(l, 1));
    OK(getsockname(l, (struct sockaddr *)&a, &len));
    fds[0] = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(fds[0], (struct sockaddr *)&a, sizeof a));
    fds[1] = OK(accept(l, NULL, NULL));
    OK(close(l));
}

static void *sends_in_parts(void *arg) {
    for (int i = 0; i < 10; i++) { sleep_us(1000); write_all((int)(long)arg, out, 100); }
    return NULL;
}

int main(void) {
    pthread_t spinner, t;
    int p[2], s[2];
    for (int i = 0; i < BIG; i++) out[i] = (char)(i * 7);
    OK0(pthread_create(&spinner, NULL, spin, NULL));

    OK(pipe(p));
    whole(p[1], p[0], 0);
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    whole(s[0], s[1], 1);
    tcp(s);
    whole(s[0], s[1], 0);
    tcp(s);
    whole(s[0], s[1], 1);

    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    OK0(pthread_create(&t, NULL, sends_in_parts, (void *)(long)s[0]));
    CHECK(recv(s[1], in, 1000, MSG_WAITALL) == 1000);
    CHECK(memcmp(in, out, 100) == 0 && memcmp(in + 900, out, 100) == 0);
    OK0(pthread_join(t, NULL));
    FAILS(recv(s[1], in, 1, MSG_DONTWAIT), EAGAIN);

    int e = OK(epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5}, got[2];
    OK(epoll_ctl(e, EPOLL_CTL_ADD, s[1], &ev));
    CHECK(epoll_wait(e, got, 2, 0) == 0);
    CHECK(epoll_wait(e, got, 2, 20) == 0);
    for (int i = 0; i < 20; i++) {
        write_all(s[0], out, 8);
        CHECK(epoll_wait(e, got, 2, -1) == 1 && got[0].data.u32 == 5);
        struct iovec v[2] = {{in, 3}, {in + 3, 13}};
        struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
        CHECK((i % 2 ? recvmsg(s[1], &m, 0) : readv(s[1], v, 2)) == 8 && memcmp(in, out, 8) == 0);
    }

    handle(SIGPIPE, (void (*)(int, siginfo_t *, void *))on_pipe, 0);
    OK(pipe(p));
    OK(close(p[0]));
    FAILS(write(p[1], "x", 1), EPIPE);
    CHECK(pipes == 1);
    OK(close(s[1]));
    FAILS(send(s[0], "x", 1, 0), EPIPE);
    CHECK(pipes == 2);
    FAILS(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(pipes == 2);
    stop = 1;
    OK0(pthread_join(spinner, NULL));
    return 0;
}
