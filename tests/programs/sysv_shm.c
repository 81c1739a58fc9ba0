// System V shared memory: create, attach twice, at a chosen address, read-only, across fork, statistics, removal.
#include "check.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(void) {
    int id = OK(shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600));
    volatile int *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != (void *)-1 && b != (void *)-1 && a != b);
    *a = (int)noise_u32();
    CHECK(*b == *a);
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    CHECK(ds.shm_segsz == 10000 && ds.shm_nattch == 2 && ds.shm_cpid == getpid());
    pid_t c = OK(fork());
    if (c == 0) {
        for (int i = 0; i < 1000; i++) __atomic_add_fetch(&a[1], 1, __ATOMIC_SEQ_CST);
        a[2] = getpid();
        _exit(0);
    }
    for (int i = 0; i < 1000; i++) __atomic_add_fetch(&a[1], 1, __ATOMIC_SEQ_CST);
    wait_exit(c, 0);
    CHECK(a[1] == 2000 && a[2] == c);
    OK(shmdt((void *)a));
    OK(shmctl(id, IPC_RMID, NULL));
    CHECK(b[1] == 2000);
    char *hole = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = shmat(id, hole, SHM_REMAP);
    CHECK(at == hole && *(int *)(at + 8) == c);
    OK(shmdt(at));
    OK(shmdt((void *)b));
    FAILS(shmdt((void *)b), EINVAL);
    CHECK(shmat(id, NULL, 0) == (void *)-1 && (errno == EINVAL || errno == EIDRM));
    printf("id %d value at %p %p\n", id, (void *)a, (void *)b);
    return 0;
}
