/* Frees what must not be freed, in the way that its argument names. It prints the offending pointer in hexadecimal on
 * stdout, and must then die by SIGABRT, with a message on stderr that names the library and that pointer; conformance.rs
 * looks at both. Where finding out is only promised for the moment when the magazines are emptied into the slabs, it goes on
 * to free enough objects of the same size to make that happen; if it is still alive after that it leaves with code 0.
 */
#include "check.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { CROWD = 200000 };
static void *crowd[CROWD];
static char in_static_memory[256] __attribute__((aligned(64)));

static void *offend(void *p)
{
    char text[40];
    int length = snprintf(text, sizeof text, "%p\n", p);
    if (write(1, text, (size_t)length) != length)
        _exit(2);
    return opaque_pointer(p);
}

/* How many objects fill magazines, depot and slabs: of long ones these hold few. */
static int crowd_of(size_t size)
{
    return size > 32 * KIB ? 400 : CROWD;
}

/* Many objects of one size, so that there is something to flush with. */
static void gather(size_t size)
{
    for (int i = 0; i < crowd_of(size); i++)
        REQUIRE(crowd[i] = malloc(size), "malloc(%zu) to give memory", size);
}

static char *in_a_crowd(size_t size)
{
    gather(size);
    return (char *)malloc(size);
}

/* Frees the crowd and gathers it anew, beginning elsewhere each time: what lay at the bottom of a magazine is handed out,
 * and freed again among others, on its way to a slab. */
static void flush(size_t size)
{
    for (int turn = 0; turn < 4; turn++) {
        int count = crowd_of(size);
        for (int i = 0; i < count; i++)
            free(crowd[(i + turn * count / 4) % count]);
        gather(size);
    }
}

static void twice(size_t size)
{
    char *p = (char *)malloc(size);
    *p = 1;
    free(p);
    free(offend(p));
}

int main(int argc, char **argv)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    /* On one CPU throughout: what it leaves in the magazine of another would not be flushed by what follows. */
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
    begin("misuse");
    const char *way = argc > 1 ? argv[1] : "";
    char on_the_stack[256] __attribute__((aligned(64)));
    if (!strcmp(way, "stack")) {
        free(offend(on_the_stack));
    } else if (!strcmp(way, "static")) {
        free(offend(in_static_memory));
    } else if (!strcmp(way, "code")) {
        free(offend((void *)(uintptr_t)main));
    } else if (!strcmp(way, "mapping")) {
        free(offend(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    } else if (!strcmp(way, "nowhere")) {
        free(offend((void *)(uintptr_t)0x123456780));
    } else if (!strcmp(way, "low")) {
        free(offend((void *)(uintptr_t)0x10));
    } else if (!strcmp(way, "high")) {
        free(offend((void *)(uintptr_t)0xffff800012345670));
    } else if (!strcmp(way, "realloc-stack")) {
        free(realloc(offend(on_the_stack), 1000));
    } else if (!strcmp(way, "odd")) {
        free(offend(in_a_crowd(64) + 1));
        flush(64);
    } else if (!strcmp(way, "interior-small")) {
        free(offend(in_a_crowd(256) + 16));
        flush(256);
    } else if (!strcmp(way, "interior-medium")) {
        free(offend(in_a_crowd(100 * KIB) + 4096));
        flush(100 * KIB);
    } else if (!strcmp(way, "interior-large")) {
        free(offend((char *)malloc(1 * MIB) + 4096));
    } else if (!strcmp(way, "interior-huge")) {
        free(offend((char *)malloc(200 * MIB) + 2 * MIB));
    } else if (!strcmp(way, "double-small")) {
        char *p = in_a_crowd(64);
        free(p);
        free(offend(p));
        flush(64);
    } else if (!strcmp(way, "double-later")) {
        char *p = in_a_crowd(64);
        free(p);
        flush(64);
        free(offend(p));
        flush(64);
    } else if (!strcmp(way, "double-medium")) {
        char *p = in_a_crowd(100 * KIB);
        free(p);
        free(offend(p));
        flush(100 * KIB);
    } else if (!strcmp(way, "double-large")) {
        twice(1 * MIB);
    } else if (!strcmp(way, "double-huge")) {
        twice(200 * MIB);
    } else {
        dprintf(2, "misuse: no such way: %s\n", way);
        return 2;
    }
    return 0;
}
