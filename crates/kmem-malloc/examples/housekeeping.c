/* What a long-running program may do about its memory beside malloc and free: ask how much is held and for what, release
 * what is not needed, and say which CPUs it will use.
 *
 *     cc -I crates/kmem-malloc/include housekeeping.c -o housekeeping -L target/release -lkmem_malloc
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmem.h"

enum { BLOCKS = 20000 };

static void must(int succeeded, const char *what)
{
    if (!succeeded) {
        fprintf(stderr, "housekeeping: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static size_t in_use(void)
{
    kmem_memory_figures memory;
    must(kmem_memory_stats(&memory, sizeof memory) == 0, "figures");
    return memory.in_use + memory.large;
}

int main(void)
{
    static char *blocks[BLOCKS];
    size_t before = in_use(), asked = 0, usable = 0, released = 0;
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = 100 + (size_t)i % 400;
        blocks[i] = malloc(size);
        must(blocks[i] != NULL, "memory");
        asked += size;
        usable += kmem_usable_size(blocks[i]);
    }
    printf("usable is at least what was asked for: %s\n", usable >= asked ? "yes" : "no");
    printf("in use grew by what is usable: %s\n", in_use() - before >= usable ? "yes" : "no");
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    must(kmem_release_memory(&released) == 0, "a release");
    printf("released at least a half of it: %s\n", released >= usable / 2 ? "yes" : "no");

    /* A program that drives its CPUs by itself. The last one stays. */
    must(kmem_cpus_follow(0) >= 0, "CPUs of the program's own");
    size_t down = 0;
    for (size_t cpu = 1; cpu < kmem_cpus_possible(); cpu++)
        if (kmem_cpu_is_online(cpu) && kmem_cpu_down(cpu) == 0)
            down = cpu;
    free(malloc(100));
    if (down)
        must(kmem_cpu_up(down) == 0, "a CPU up again");
    must(kmem_cpus_follow(1) == 0, "followed CPUs");
    printf("CPUs went and came\n");
    return 0;
}
