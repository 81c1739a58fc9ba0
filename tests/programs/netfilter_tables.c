// Tables of iptables and ip6tables: read, and replaced by the same; the counters of the old entries come back. In a network namespace of its own.
#include "check.h"
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>

// The two have the same interface under other names.
#define TABLES_OF(function, family, level, tables, TABLES, what) \
static void function(void) { \
    int fd = socket(family, SOCK_RAW, IPPROTO_RAW); \
    struct tables##_getinfo info = {.name = "filter"}; \
    socklen_t len = sizeof info; \
    if (fd < 0 || getsockopt(fd, level, TABLES##_SO_GET_INFO, &info, &len) != 0) { \
        printf("no tables: %s\n", strerrorname_np(errno)); \
        return; \
    } \
    struct tables##_get_entries *got = calloc(1, sizeof *got + info.size); \
    strcpy(got->name, info.name); \
    got->size = info.size; \
    len = sizeof *got + info.size; \
    OK(getsockopt(fd, level, TABLES##_SO_GET_ENTRIES, got, &len)); \
    struct xt_counters *counters = malloc(info.num_entries * sizeof *counters); \
    memset(counters, 0xee, info.num_entries * sizeof *counters); \
    struct tables##_replace *new = calloc(1, sizeof *new + info.size); \
    strcpy(new->name, info.name); \
    new->valid_hooks = info.valid_hooks; \
    new->num_entries = new->num_counters = info.num_entries; \
    new->size = info.size; \
    new->counters = counters; \
    memcpy(new->hook_entry, info.hook_entry, sizeof new->hook_entry); \
    memcpy(new->underflow, info.underflow, sizeof new->underflow); \
    memcpy(new->entries, got->entrytable, info.size); \
    OK(setsockopt(fd, level, TABLES##_SO_SET_REPLACE, new, sizeof *new + info.size)); \
    for (unsigned i = 0; i < info.num_entries; i++) CHECK(counters[i].pcnt < 1000); \
    printf("%u entries of " what "\n", info.num_entries); \
}

TABLES_OF(table4, AF_INET, IPPROTO_IP, ipt, IPT, "IPv4")
TABLES_OF(table6, AF_INET6, IPPROTO_IPV6, ip6t, IP6T, "IPv6")

int main(void) {
    if (unshare(CLONE_NEWNET) == -1 && unshare(CLONE_NEWUSER | CLONE_NEWNET) == -1) SKIP("no network namespace");
    table4();
    table6();
    return 0;
}
