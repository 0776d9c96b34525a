/* What an allocator keeps on a CPU that a process has lost.
 *
 *     leave [threads a CPU] [MiB a thread]
 *
 * On each CPU that it may run on, threads pinned to it allocate objects of 16 bytes to 8 KiB, that many MiB, and free
 * them all. Then they end (with 0 as third argument they sleep instead), and the program prints
 *     ready <resident KiB before anything> <resident KiB now>
 * and waits. From then on no thread allocates. For a line on standard input it prints 'resident <KiB>'; end of file ends
 * it. Meanwhile the caller takes a CPU away: with a cpuset, with `taskset -ap`, or by taking the CPU offline.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t bytes_each = 4u << 20;
static int threads_stay;
static pthread_barrier_t all_done;

static long resident(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib;
}

static void *use(void *argument)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((int)(intptr_t)argument, &here);
    if (sched_setaffinity(0, sizeof here, &here) != 0)
        perror("sched_setaffinity");
    for (size_t size = 16; size <= 8192; size *= 2) {
        size_t count = bytes_each / 10 / size;
        void **objects = calloc(count, sizeof *objects);
        for (size_t i = 0; i < count; i++) {
            objects[i] = malloc(size);
            memset(objects[i], 1, size);
        }
        for (size_t i = 0; i < count; i++)
            free(objects[i]);
        free(objects);
    }
    /* So that taking the CPU away is the only change of the mask. */
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
    pthread_barrier_wait(&all_done);
    while (threads_stay)
        pause();
    return NULL;
}

int main(int argc, char **argv)
{
    int each = argc > 1 ? atoi(argv[1]) : 1;
    bytes_each = (size_t)(argc > 2 ? atoi(argv[2]) : 4) << 20;
    threads_stay = argc > 3 && atoi(argv[3]);
    long before = resident();
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        perror("sched_getaffinity");
        CPU_SET(0, &allowed);
    }
    pthread_barrier_init(&all_done, NULL, (unsigned)(CPU_COUNT(&allowed) * each + 1));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        for (int i = 0; CPU_ISSET(cpu, &allowed) && i < each; i++) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, use, (void *)(intptr_t)cpu) != 0)
                return 1;
            pthread_detach(thread);
        }
    pthread_barrier_wait(&all_done);
    char line[64];
    snprintf(line, sizeof line, "ready %ld %ld\n", before, resident());
    if (write(1, line, strlen(line)) < 0)
        return 1;
    while (read(0, line, 1) == 1) {
        if (line[0] != '\n')
            continue;
        snprintf(line, sizeof line, "resident %ld\n", resident());
        if (write(1, line, strlen(line)) < 0)
            return 1;
    }
    return 0;
}
