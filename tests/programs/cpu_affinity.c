// getcpu, sched_getcpu, affinity, scheduling policy and priority, sched_yield, number of processors.
// cflags: -pthread
#include "check.h"
#include <sys/sysinfo.h>

static void *thread(void *arg) {
    cpu_set_t *want = arg, got;
    OK(sched_getaffinity(0, sizeof got, &got));
    CHECK(CPU_EQUAL(want, &got));
    return NULL;
}

int main(void) {
    unsigned cpu, node;
    OK(getcpu(&cpu, &node));
    OK(syscall(SYS_getcpu, &cpu, &node, NULL));
    int c = OK(sched_getcpu());
    cpu_set_t set;
    CPU_ZERO(&set);
    OK(sched_getaffinity(0, sizeof set, &set));
    CHECK(CPU_COUNT(&set) >= 1);
    long raw = syscall(SYS_sched_getaffinity, 0, sizeof set, &set);
    CHECK(raw > 0 && raw % 8 == 0);
    FAILS(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
    int first = 0;
    while (!CPU_ISSET(first, &set)) first++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    OK(sched_setaffinity(0, sizeof one, &one));
    pthread_t t;
    OK0(pthread_create(&t, NULL, thread, &one));
    OK0(pthread_join(t, NULL));
    OK(sched_setaffinity(0, sizeof set, &set));
    struct sched_param p = {0};
    CHECK(sched_getscheduler(0) == SCHED_OTHER);
    OK(sched_getparam(0, &p));
    OK(sched_setscheduler(0, SCHED_BATCH, &p));
    CHECK(sched_getscheduler(0) == SCHED_BATCH);
    CHECK(sched_get_priority_max(SCHED_FIFO) == 99);
    OK(sched_yield());
    errno = 0;
    int nice_was = getpriority(PRIO_PROCESS, 0);
    CHECK(errno == 0 && nice(1) == nice_was + 1);
    struct timespec ts;
    OK(sched_rr_get_interval(0, &ts));
    printf("cpu %u node %u then %d, %d usable, %d online, slice %ld\n", cpu, node, c, CPU_COUNT(&set), get_nprocs(), ts.tv_nsec);
    return 0;
}
