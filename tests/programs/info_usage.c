// getrusage, times, clock, sysinfo, uname, gethostname, getloadavg, sysconf, getpid caches.
#include "check.h"
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

int main(void) {
    volatile long n = 0;
    clock_t c0 = clock();
    while (clock() - c0 < CLOCKS_PER_SEC / 100) n++;
    struct rusage self, thread, kids;
    OK(getrusage(RUSAGE_SELF, &self));
    OK(getrusage(RUSAGE_THREAD, &thread));
    OK(getrusage(RUSAGE_CHILDREN, &kids));
    CHECK(self.ru_utime.tv_sec * 1000000 + self.ru_utime.tv_usec + self.ru_stime.tv_sec * 1000000 + self.ru_stime.tv_usec >= 5000);
    CHECK(self.ru_maxrss > 100);
    FAILS(getrusage(77, &self), EINVAL);
    struct tms t;
    clock_t up = times(&t);
    CHECK(up != (clock_t)-1);
    struct sysinfo si;
    OK(sysinfo(&si));
    CHECK(si.totalram > 0 && si.procs > 0);
    struct utsname u;
    OK(uname(&u));
    CHECK(strcmp(u.sysname, "Linux") == 0 && strcmp(u.machine, "x86_64") == 0);
    char host[256];
    OK(gethostname(host, sizeof host));
    CHECK(strcmp(host, u.nodename) == 0);
    double load[3];
    CHECK(getloadavg(load, 3) == 3);
    printf("rss %ld faults %ld utime %ld.%06ld times %ld ticks %ld\n", self.ru_maxrss, self.ru_minflt, (long)self.ru_utime.tv_sec,
           (long)self.ru_utime.tv_usec, (long)up, (long)t.tms_utime);
    printf("uptime %ld free %lu procs %d load %.2f %s pages %ld loops %ld\n", si.uptime, si.freeram, si.procs, load[0], u.release,
           sysconf(_SC_AVPHYS_PAGES), n);
    return 0;
}
