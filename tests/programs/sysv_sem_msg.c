// System V semaphores (semop, undo at exit, semtimedop) and message queues (types, sizes, blocking receive).
#include "check.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

struct message { long type; char text[64]; };

int main(void) {
    int s = OK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
    OK(semctl(s, 0, SETVAL, 1));
    OK(semctl(s, 1, SETVAL, 0));
    struct sembuf down = {0, -1, 0}, up = {0, 1, 0}, nowait = {0, -1, IPC_NOWAIT}, undo = {0, -1, SEM_UNDO};
    OK(semop(s, &down, 1));
    FAILS(semop(s, &nowait, 1), EAGAIN);
    struct timespec t = {0, 10000000};
    FAILS(semtimedop(s, &down, 1, &t), EAGAIN);
    pid_t c = OK(fork());
    if (c == 0) {
        struct sembuf both[2] = {{0, -1, 0}, {1, 1, 0}};
        OK(semop(s, both, 2)); // blocks until the parent raises semaphore 0
        printf("child %d passed\n", getpid());
        _exit(0);
    }
    sleep_us(5000);
    OK(semop(s, &up, 1));
    struct sembuf wait1 = {1, -1, 0};
    OK(semop(s, &wait1, 1));
    wait_exit(c, 0);
    CHECK(semctl(s, 0, GETVAL) == 0 && semctl(s, 0, GETPID) == c);
    OK(semctl(s, 0, SETVAL, 1));
    c = OK(fork());
    if (c == 0) {
        OK(semop(s, &undo, 1));
        _exit(0);
    }
    wait_exit(c, 0);
    CHECK(semctl(s, 0, GETVAL) == 1); // undone at its exit
    unsigned short all[2];
    OK(semctl(s, 0, GETALL, all));
    CHECK(all[0] == 1 && all[1] == 0);
    OK(semctl(s, 0, IPC_RMID));
    CHECK(semop(s, &up, 1) == -1 && (errno == EINVAL || errno == EIDRM));

    int q = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
    struct message m = {3, ""};
    snprintf(m.text, sizeof m.text, "three %08x", noise_u32());
    OK(msgsnd(q, &m, strlen(m.text) + 1, 0));
    m.type = 1;
    OK(msgsnd(q, &m, 4, 0));
    FAILS(msgrcv(q, &m, sizeof m.text, 2, IPC_NOWAIT), ENOMSG);
    FAILS(msgrcv(q, &m, 2, 1, 0), E2BIG);
    CHECK(msgrcv(q, &m, 2, 1, MSG_NOERROR) == 2);
    CHECK(msgrcv(q, &m, sizeof m.text, -5, 0) == 15 && m.type == 3);
    printf("%s\n", m.text);
    c = OK(fork());
    if (c == 0) {
        CHECK(msgrcv(q, &m, sizeof m.text, 0, 0) == 5 && m.type == 77);
        _exit(0);
    }
    sleep_us(5000);
    m.type = 77;
    OK(msgsnd(q, &m, 5, 0));
    wait_exit(c, 0);
    struct msqid_ds ds;
    OK(msgctl(q, IPC_STAT, &ds));
    CHECK(ds.msg_qnum == 0 && ds.msg_lrpid == c);
    OK(msgctl(q, IPC_RMID, NULL));
    printf("semaphores %d queue %d\n", s, q);
    return 0;
}
