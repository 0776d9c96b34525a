/* What an allocator keeps for a CPU that the process has lost.
 *
 * A thread on the last CPU uses some megabytes of small objects twice, frees them all, and sleeps: what is cached then
 * is cached for that CPU, or for that thread. Then the CPU is removed from the cpuset of this process if it was given
 * one, and otherwise from the affinity masks of all its threads. No thread allocates after that. A second later the
 * memory that is still there is measured. */
#define _GNU_SOURCE
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static cpu_set_t allowed;
static int last;
static pthread_barrier_t freed, ended;

static long bytes;
static void **objects;

static void *use_and_sleep(void *state) {
    (void)state;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(last, &here);
    if (sched_setaffinity(0, sizeof here, &here)) fail("a thread cannot be put on the last CPU");
    for (int time = 0; time < 2; time++) {
        /* Allocators that have a thread for such work do not start it in a process that may end at once. */
        pause_ms(100);
        for (size_t size = 16; size <= 8192; size *= 2) {
            long count = bytes / 10 / size;
            for (long i = 0; i < count; i++) memset(objects[i] = take(size), 1, size);
            for (long i = 0; i < count; i++) free(objects[i]);
        }
    }
    /* So that losing the CPU is the only change of the mask. */
    if (sched_setaffinity(0, sizeof allowed, &allowed)) fail("a thread cannot leave the last CPU");
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&ended);
    return NULL;
}

static void put(const char *folder, const char *name, const char *text) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0) {
        dprintf(2, "%s does not accept '%s': %m\n", path, text);
        exit(1);
    }
    close(file);
}

/* All threads, including the allocator's own. The folder is read without opendir, which allocates. */
static void bind_all(const cpu_set_t *cpus) {
    static char entries[16384];
    int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long length;
    while ((length = syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0)
        for (long at = 0; at < length;) {
            struct dirent64 *entry = (struct dirent64 *)(entries + at);
            at += entry->d_reclen;
            int thread = atoi(entry->d_name);
            if (thread) sched_setaffinity(thread, sizeof *cpus, cpus);
        }
    close(folder);
}

static void take_away(const char *cpuset) {
    cpu_set_t rest = allowed;
    CPU_CLR(last, &rest);
    if (!*cpuset) {
        bind_all(&rest);
        return;
    }
    static char list[8 * CPU_SETSIZE];
    int length = 0;
    for (int cpu = 0; cpu < last; cpu++)
        if (CPU_ISSET(cpu, &rest)) length += sprintf(list + length, length ? ",%d" : "%d", cpu);
    put(cpuset, "cpuset.cpus", list);
}

/* Runs a command that can inspect the allocator from outside, with this process and the CPU as its last arguments. It
 * prints figures to the same standard output. */
static void ask(int argc, char **argv) {
    char process[16], cpu[16];
    char *command[argc + 3];
    snprintf(process, sizeof process, "%d", getpid());
    snprintf(cpu, sizeof cpu, "%d", last);
    memcpy(command, argv, argc * sizeof *argv);
    command[argc] = process, command[argc + 1] = cpu, command[argc + 2] = NULL;
    unsetenv("LD_PRELOAD");
    pid_t child;
    int status;
    if (posix_spawn(&child, command[0], NULL, NULL, command, environ)) fail("cannot run the inspecting command");
    if (waitpid(child, &status, 0) != child || status) fail("the inspecting command failed");
}

/* Arguments: the folder of a cpuset that this process may join and change, or an empty string; an inspecting command,
 * if any. */
void leave_cpu(int argc, char **argv) {
    const char *cpuset = argc > 0 ? argv[0] : "";
    if (*cpuset) put(cpuset, "cgroup.procs", "0");
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) < 2) fail("two CPUs are needed");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed)) last = cpu;

    bytes = amount(16, 4) << 20;
    objects = own_memory(bytes / 10 / 16 * sizeof *objects);
    pthread_barrier_init(&freed, NULL, 2);
    pthread_barrier_init(&ended, NULL, 2);
    long before = resident_kib();
    pthread_t thread;
    if (pthread_create(&thread, NULL, use_and_sleep, NULL)) fail("cannot start a thread");
    pthread_barrier_wait(&freed);
    figure("cached_kib", resident_kib() - before);
    take_away(cpuset);
    pause_ms(1000);
    long resident = resident_kib();
    /* Beyond the start: this is also small for an allocator whose first megabytes were resident before they were
     * needed. */
    figure("kept_kib", resident > before ? resident - before : 0);
    figure("resident_kib", resident);
    if (argc > 1) ask(argc - 1, argv + 1);
    pthread_barrier_wait(&ended);
    pthread_join(thread, NULL);
}
