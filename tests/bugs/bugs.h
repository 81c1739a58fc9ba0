// Programs with a fault that native runs hardly ever show: exit status 1 when it does.
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Runs two threads to their ends.
static inline void two(void *(*f)(void *), void *a, void *(*g)(void *), void *b) {
    pthread_t s, t;
    if (pthread_create(&s, NULL, f, a) || pthread_create(&t, NULL, g, b)) abort();
    pthread_join(s, NULL);
    pthread_join(t, NULL);
}
