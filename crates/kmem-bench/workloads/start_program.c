/* What it costs a process to start and to end with an allocator preloaded: this one starts a program that does nothing,
 * many times. The allocator is given by the argument, so this process itself has the system's own. */
#define _GNU_SOURCE
#include "bench.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char self[4096];

static void start(void *state) {
    for (long i = *(long *)state; i > 0; i--) {
        char *arguments[] = {self, NULL};
        pid_t child;
        int status;
        if (posix_spawn(&child, self, NULL, NULL, arguments, environ)) fail("cannot start the program");
        if (waitpid(child, &status, 0) != child || status) fail("the program failed");
    }
}

static double children_cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3;
}

/* Arguments: the program to start, and what its environment has more: NAME=VALUE. */
void start_program(int argc, char **argv) {
    if (argc < 1) fail("usage: workloads start_program full|quick PROGRAM [NAME=VALUE]...");
    snprintf(self, sizeof self, "%s", argv[0]);
    for (int i = 1; i < argc; i++) putenv(argv[i]);
    long count = amount(150, 40);
    int rounds = amount(3, 2);
    double before = children_cpu_ns();
    measure("", rounds, count, start, &count);
    figure("program_cpu_ns", (children_cpu_ns() - before) / (count * rounds));
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    figure("program_peak_kib", usage.ru_maxrss);
}
