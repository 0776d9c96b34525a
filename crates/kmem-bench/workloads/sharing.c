/* False sharing: small objects that different threads write to again and again. Either each thread allocates its own
 * (thrash: does the allocator put two threads' objects into one cache line?), or begins with one that the first thread
 * allocated next to those of the others, and frees it (scratch: does the allocator give the rest of that line to this
 * thread?). */
#define _GNU_SOURCE
#include "suite.h"

#include <stdlib.h>

enum { SIZE = 8, WRITES = 2000 };

struct sharing { long rounds; void *given[64]; };

static void write_often(volatile char *object) {
    for (int i = 0; i < WRITES; i++) object[i % SIZE]++;
}

static void body(int number, void *state) {
    struct sharing *sharing = state;
    if (sharing->given[number]) {
        write_often(sharing->given[number]);
        free(sharing->given[number]);
    }
    for (long i = 0; i < sharing->rounds; i++) {
        void *object = take(SIZE);
        write_often(object);
        free(object);
    }
}

static int threads(void) { return cpus() < 64 ? cpus() : 64; }

static void thrash(void *state) { on_threads(threads(), body, state); }

static void scratch(void *state) {
    struct sharing *sharing = state;
    for (int i = 0; i < threads(); i++) sharing->given[i] = take(SIZE);
    thrash(state);
}

void cache_thrash(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sharing sharing = {.rounds = amount(10000, 2000)};
    measure("", 3, sharing.rounds * threads(), thrash, &sharing);
}

void cache_scratch(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sharing sharing = {.rounds = amount(10000, 2000)};
    measure("", 3, sharing.rounds * threads(), scratch, &sharing);
}
