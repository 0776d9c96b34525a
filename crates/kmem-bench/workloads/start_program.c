/* What it costs to start and end a process with an allocator preloaded: this one repeatedly starts a program that does
 * nothing (figures none_*), or allocates once. The allocator is given by an argument, so this process itself runs on
 * the system's. */
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

struct starting { long count; char *argument; };

static void start(void *state) {
    struct starting *starting = state;
    for (long i = starting->count; i > 0; i--) {
        char *arguments[] = {self, starting->argument, NULL};
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

/* Arguments: the program to start, and what to add to its environment: NAME=VALUE. */
void start_program(int argc, char **argv) {
    if (argc < 1) fail("usage: workloads start_program full|quick PROGRAM [NAME=VALUE]...");
    snprintf(self, sizeof self, "%s", argv[0]);
    for (int i = 1; i < argc; i++) putenv(argv[i]);
    struct starting idle = {.count = amount(150, 40)}, allocating = {.count = idle.count, .argument = "allocate"};
    int rounds = amount(3, 2);
    measure("none_", rounds, idle.count, start, &idle);
    double before = children_cpu_ns();
    measure("", rounds, allocating.count, start, &allocating);
    figure("program_cpu_ns", (children_cpu_ns() - before) / (allocating.count * rounds));
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    figure("program_peak_kib", usage.ru_maxrss);
}
