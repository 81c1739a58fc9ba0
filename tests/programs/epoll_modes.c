// epoll: level, edge, one-shot, exclusive, modification, removal by close, nesting, errors.
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int add(int ep, int op, int fd, uint32_t ev, uint64_t data) {
    struct epoll_event e = {.events = ev, .data.u64 = data};
    return epoll_ctl(ep, op, fd, &e);
}

int main(void) {
    int ep = OK(epoll_create1(EPOLL_CLOEXEC)), p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    struct epoll_event e[8];
    uint64_t token = ((uint64_t)noise_u32() << 32) | (uintptr_t)&token;
    OK(add(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, token));
    FAILS(add(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 0), EEXIST);
    FAILS(add(ep, EPOLL_CTL_MOD, q[0], EPOLLIN, 0), ENOENT);
    FAILS(add(ep, EPOLL_CTL_ADD, OK(open(".", O_RDONLY)), EPOLLIN, 0), EPERM);
    CHECK(epoll_wait(ep, e, 8, 0) == 0);
    write_all(p[1], "abc", 3);
    for (int i = 0; i < 3; i++) CHECK(epoll_wait(ep, e, 8, -1) == 1 && e[0].data.u64 == token && e[0].events == EPOLLIN);
    OK(add(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, token + 1));
    CHECK(epoll_wait(ep, e, 8, 1000) == 1 && e[0].data.u64 == token + 1);
    CHECK(epoll_wait(ep, e, 8, 0) == 0);
    write_all(p[1], "d", 1);
    CHECK(epoll_wait(ep, e, 8, 1000) == 1);
    OK(add(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 5));
    CHECK(epoll_wait(ep, e, 8, 1000) == 1);
    CHECK(epoll_wait(ep, e, 8, 0) == 0);
    OK(add(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 6));
    CHECK(epoll_wait(ep, e, 8, 1000) == 1 && e[0].data.u64 == 6);

    int ev = OK(eventfd(0, EFD_NONBLOCK));
    OK(add(ep, EPOLL_CTL_ADD, ev, EPOLLIN | EPOLLOUT, 7));
    CHECK(epoll_wait(ep, e, 8, 1000) == 1 && e[0].events == EPOLLOUT);
    OK(eventfd_write(ev, 3));
    CHECK(epoll_wait(ep, e, 8, 1000) == 1 && e[0].events == (EPOLLIN | EPOLLOUT));
    OK(close(ev));
    CHECK(epoll_wait(ep, e, 8, 0) == 0);

    int outer = OK(epoll_create(1));
    OK(add(outer, EPOLL_CTL_ADD, ep, EPOLLIN, 8));
    OK(add(ep, EPOLL_CTL_ADD, q[0], EPOLLIN | EPOLLRDHUP, 9));
    CHECK(epoll_wait(outer, e, 8, 0) == 0);
    write_all(q[1], "x", 1);
    CHECK(epoll_wait(outer, e, 8, 1000) == 1 && e[0].data.u64 == 8);
    CHECK(epoll_wait(ep, e, 8, 1000) == 1 && e[0].data.u64 == 9);
    FAILS(add(ep, EPOLL_CTL_ADD, outer, EPOLLIN, 0), ELOOP);
    char b[8];
    CHECK(read(q[0], b, 8) == 1);
    OK(close(q[1]));
    CHECK(epoll_wait(ep, e, 8, 1000) == 1 && (e[0].events & EPOLLHUP));
    OK(add(ep, EPOLL_CTL_DEL, q[0], 0, 0));
    int64_t t = now_ns();
    struct timespec ts = {0, 20000000};
    long n = syscall(SYS_epoll_pwait2, ep, e, 8, &ts, NULL, 0);
    CHECK(n == 0 || (n == -1 && errno == ENOSYS));
    if (n == 0) CHECK(now_ns() - t >= 20000000);
    FAILS(epoll_wait(ep, e, 0, 0), EINVAL);
    printf("token %llx waited %lld\n", (unsigned long long)token, (long long)(now_ns() - t));
    return 0;
}
