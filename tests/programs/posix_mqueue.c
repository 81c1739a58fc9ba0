// POSIX message queues: priorities, non-blocking, timed receive, mq_notify by signal, blocking between processes.
// cflags: -lrt
#include "check.h"
#include <mqueue.h>

static volatile int notified;
static void on(int s, siginfo_t *si, void *uc) {
    (void)s;
    (void)uc;
    CHECK(si->si_code == SI_MESGQ);
    notified = si->si_value.sival_int;
}

int main(void) {
    char name[64], buf[64];
    snprintf(name, sizeof name, "/scribe-mq-%d-%08x", getpid(), noise_u32());
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 64}, got;
    mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr);
    if (q == -1 && errno == ENOSYS) SKIP("no message queues");
    CHECK(q != -1);
    FAILS(mq_receive(q, buf, 64, NULL), EAGAIN);
    FAILS(mq_receive(q, buf, 10, NULL), EMSGSIZE);
    OK(mq_send(q, "low", 3, 1));
    OK(mq_send(q, "high", 4, 9));
    OK(mq_send(q, "low2", 4, 1));
    unsigned prio;
    CHECK(mq_receive(q, buf, 64, &prio) == 4 && prio == 9);
    CHECK(mq_receive(q, buf, 64, &prio) == 3 && prio == 1);
    OK(mq_getattr(q, &got));
    CHECK(got.mq_curmsgs == 1 && got.mq_maxmsg == 4);
    for (int i = 0; i < 3; i++) OK(mq_send(q, "x", 1, 0));
    FAILS(mq_send(q, "x", 1, 0), EAGAIN);
    for (int i = 0; i < 4; i++) CHECK(mq_receive(q, buf, 64, NULL) >= 1);

    handle(SIGUSR1, on, SA_RESTART);
    int token = noise_u32() | 1;
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = token};
    OK(mq_notify(q, &se));
    FAILS(mq_notify(q, &se), EBUSY);
    OK(mq_send(q, "n", 1, 0));
    CHECK(notified == token);
    CHECK(mq_receive(q, buf, 64, NULL) == 1);

    attr.mq_flags = 0;
    OK(mq_setattr(q, &attr, NULL));
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    FAILS(mq_timedreceive(q, buf, 64, NULL, &t), ETIMEDOUT);
    pid_t c = OK(fork());
    if (c == 0) {
        sleep_us(5000);
        snprintf(buf, sizeof buf, "from %d", getpid());
        OK(mq_send(q, buf, strlen(buf) + 1, 3));
        _exit(0);
    }
    CHECK(mq_receive(q, buf, 64, &prio) > 5 && prio == 3);
    printf("%s\n", buf);
    wait_exit(c, 0);
    OK(mq_close(q));
    OK(mq_unlink(name));
    return 0;
}
