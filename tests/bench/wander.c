/* Few threads on many CPUs: what an allocator caches for them.
 *
 *     wander [threads] [seconds]
 *
 * Every 2 ms each thread moves itself to a CPU at random, one of those that the process may run on, allocates 400 objects of
 * 16 bytes to 4 KiB there and frees them, three times. Meanwhile the caller observes it from outside:
 *     KMEM_UPKEEP=always [KMEM_RSEQ=cid] kmem run -- wander 2 10 &    and    kmem info PID
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 64, OBJECTS = 400, TIMES = 3 };

static const size_t sizes[] = {16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096};
static int cpus[CPU_SETSIZE], cpu_count;
static volatile int over;

static void *wander(void *seed)
{
    unsigned state = (unsigned)(size_t)seed * 7919u;
    void *objects[OBJECTS];
    while (!over) {
        cpu_set_t one;
        state = state * 1103515245u + 12345u;
        CPU_ZERO(&one);
        CPU_SET(cpus[(state >> 16) % cpu_count], &one);
        sched_setaffinity(0, sizeof one, &one);
        for (int time = 0; time < TIMES; time++) {
            for (int i = 0; i < OBJECTS; i++)
                objects[i] = malloc(sizes[i % (sizeof sizes / sizeof *sizes)]);
            for (int i = 0; i < OBJECTS; i++)
                free(objects[i]);
        }
        usleep(2000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    int seconds = argc > 2 ? atoi(argv[2]) : 10;
    pthread_t all[MOST];
    cpu_set_t allowed;
    if (threads < 1 || threads > MOST || seconds < 1 || sched_getaffinity(0, sizeof allowed, &allowed))
        return 2;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[cpu_count++] = cpu;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&all[i], NULL, wander, (void *)(size_t)(i + 1)))
            return 1;
    sleep((unsigned)seconds);
    over = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
    return 0;
}
