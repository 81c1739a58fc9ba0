// System V memory, semaphores and messages, a POSIX queue: parent and child take turns by them, and find them by their keys and ids
// wherever they go on.
#include <assert.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TURNS = 40 };

static int sem;

static void move(int which, int by) {
    struct sembuf op = { which, by, 0 };
    int done;
    do
        done = semop(sem, &op, 1);
    while (done < 0);
}

struct message {
    long type;
    char text[40];
};

int main(void) {
    key_t key = getpid() ^ 0x5c000000;
    int attached = shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600);
    int apart = shmget(key + 1, 5000, IPC_CREAT | IPC_EXCL | 0640);
    int removed = shmget(IPC_PRIVATE, 4096, 0600);
    int queue = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    sem = semget(key, 3, IPC_CREAT | IPC_EXCL | 0600);
    assert(attached >= 0 && apart >= 0 && removed >= 0 && queue >= 0 && sem >= 0);
    volatile int *turns = shmat(attached, NULL, 0);
    char *rest = shmat(removed, NULL, 0);
    shmctl(removed, IPC_RMID, NULL);
    strcpy(rest, "goes with the last");
    char *there = shmat(apart, NULL, 0);
    strcpy(there, "nobody has it attached");
    shmdt(there);
    semctl(sem, 2, SETVAL, 7);
    for (int i = 0; i < 3; i++) {
        struct message m = { 10 + i, "" };
        sprintf(m.text, "message %d", i);
        assert(msgsnd(queue, &m, strlen(m.text) + 1, 0) == 0);
    }
    char name[40];
    sprintf(name, "/scribe-%d", getpid());
    struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
    mqd_t posix = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attr);
    assert(posix >= 0);
    move(0, 1);
    pid_t child = fork();
    int me = child == 0;
    for (int i = 0; i < TURNS; i++) {
        move(me, -1);
        assert(*turns == 2 * i + me);
        ++*turns;
        usleep(5000);
        // By its key, as a newcomer would.
        int again = shmget(key, 0, 0);
        volatile int *seen = again == attached ? shmat(again, NULL, SHM_RDONLY) : NULL;
        assert(seen && *seen == *turns);
        shmdt((void *)seen);
        move(!me, 1);
    }
    if (me)
        _exit(*turns != 2 * TURNS);
    int status;
    waitpid(child, &status, 0);
    there = shmat(shmget(key + 1, 0, 0), NULL, 0);
    struct shmid_ds stat;
    assert(shmctl(apart, IPC_STAT, &stat) == 0);
    printf("%d turns, child %d, %s, %s, %o, %zu bytes\n", *turns, WEXITSTATUS(status), rest, there,
           stat.shm_perm.mode & 0777, stat.shm_segsz);
    for (int i = 2; i >= 0; i--) {
        struct message m;
        assert(msgrcv(queue, &m, sizeof m.text, 10 + i, IPC_NOWAIT) > 0);
        printf("%s\n", m.text);
    }
    printf("semaphore %d, queue %d\n", semctl(sem, 2, GETVAL), msgget(key, 0) == queue);
    char got[64] = "";
    mqd_t other = mq_open(name, O_WRONLY);
    int sent = mq_send(other, "by its name", 12, 3);
    int received = mq_receive(posix, got, 64, NULL);
    printf("sent %d, got %d: %s\n", sent, received, got);
    mq_unlink(name);
    shmctl(attached, IPC_RMID, NULL);
    shmctl(apart, IPC_RMID, NULL);
    msgctl(queue, IPC_RMID, NULL);
    semctl(sem, 0, IPC_RMID);
    return 0;
}
