/* One process, one workload: `workloads NAME full|quick [ARGUMENTS]`. */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <dlfcn.h>
#include <gnu/libc-version.h>
#ifdef __x86_64__
#include <x86intrin.h>
static uint64_t ticks_now(void) { return __rdtsc(); }
#else
/* The counter that Linux lets programs read on arm64, whose pace is not the processor's. */
static uint64_t ticks_now(void) {
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
#endif

static int quick;

long amount(long full, long less) { return quick ? less : full; }

int cpus(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return 1;
    return CPU_COUNT(&allowed);
}

void figure(const char *name, double value) { dprintf(1, "%s %.4f\n", name, value); }

void fail(const char *what) {
    dprintf(2, "workload: %s\n", what);
    exit(1);
}

void *take(size_t size) {
    char *object = malloc(size);
    if (!object) fail("no memory");
    *object = 1;
    return object;
}

void *own_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the workload's own data");
    return memory;
}

void pause_ms(long milliseconds) {
    struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&span, NULL);
}

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

void measure(const char *prefix, int rounds, long operations, void (*round)(void *), void *state) {
    double wall = 1e300, cpu = 1e300, cycles = 1e300;
    for (int i = 0; i < rounds; i++) {
        double cpu_begun = now(CLOCK_PROCESS_CPUTIME_ID), begun = now(CLOCK_MONOTONIC);
        uint64_t ticks = ticks_now();
        round(state);
        double took = ticks_now() - ticks;
        if (took < cycles) cycles = took;
        took = now(CLOCK_MONOTONIC) - begun;
        if (took < wall) wall = took;
        took = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_begun;
        if (took < cpu) cpu = took;
    }
    char name[64];
    snprintf(name, sizeof name, "%sns", prefix);
    figure(name, wall / operations);
    snprintf(name, sizeof name, "%scpu_ns", prefix);
    figure(name, cpu / operations);
    snprintf(name, sizeof name, "%scycles", prefix);
    figure(name, cycles / operations);
}

/* The number after `name` in a file of /proc; read without stdio, which would allocate. */
static long proc_number(const char *path, const char *name) {
    static char text[8192];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) fail("cannot read /proc/self");
    ssize_t length = 0, got;
    while ((got = read(file, text + length, sizeof text - 1 - length)) > 0) length += got;
    close(file);
    text[length] = 0;
    char *found = strstr(text, name);
    return found ? strtol(found + strlen(name), NULL, 10) : 0;
}

long resident_kib(void) { return proc_number("/proc/self/smaps_rollup", "\nRss:"); }

long peak_kib(void) { return proc_number("/proc/self/status", "\nVmHWM:"); }

struct start { void (*body)(int, void *); void *state; int number; };

static void *begin(void *argument) {
    struct start *start = argument;
    start->body(start->number, start->state);
    return NULL;
}

void on_threads(int count, void (*body)(int, void *), void *state) {
    pthread_t threads[count];
    struct start starts[count];
    for (int i = 0; i < count; i++) {
        starts[i] = (struct start){body, state, i};
        if (pthread_create(&threads[i], NULL, begin, &starts[i])) fail("cannot start a thread");
    }
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

/* Prints where malloc comes from: the object file that it is in, and the version of libc. */
static int probe(void) {
    Dl_info found;
    free(take(64));
    if (!dladdr((void *)malloc, &found)) fail("malloc is not in an object file");
    dprintf(1, "%s\n%s\n", found.dli_fname, gnu_get_libc_version());
    return 0;
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(int, char **); } workloads[] = {
#define ENTRY(name) {#name, name},
        WORKLOADS(ENTRY)
    };
    if (argc < 3) fail("usage: workloads NAME full|quick [ARGUMENTS]");
    if (!strcmp(argv[1], "probe")) return probe();
    quick = !strcmp(argv[2], "quick");
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(argv[1], workloads[i].name)) continue;
        figure("base_kib", resident_kib());
        workloads[i].run(argc - 3, argv + 3);
        pause_ms(amount(50, 10));
        figure("peak_kib", peak_kib());
        figure("settled_kib", resident_kib());
        figure("huge_kib", proc_number("/proc/self/smaps_rollup", "\nAnonHugePages:"));
        return 0;
    }
    fail("no such workload");
}
