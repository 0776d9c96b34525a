/* One malloc and one free of 64 bytes, repeatedly.
 *
 * Its floor is this very program with empty.c preloaded: the same call sites, the same entries of the procedure linkage
 * table, the same pointers that the loader fills in, and the same distance from program to library, which affects the
 * branch predictor. Every allocator pays the cost of an interposed call; the rest is its own.  The figure `near_cycles`
 * is two empty calls through the same kind of table into this program itself: a floor that no preloaded library can
 * reach, for comparison. */
#include "bench.h"

#include <stdlib.h>

enum { SIZE = 64 };

static char place;
static void *empty_take(size_t size) {
    __asm__ volatile("" : : "r"(size));
    return &place;
}
static void empty_free(void *object) { used(object); }
static void *(*resolve_take(void))(size_t) { return empty_take; }
static void (*resolve_free(void))(void *) { return empty_free; }
void *nothing_take(size_t size) __attribute__((ifunc("resolve_take")));
void nothing_free(void *object) __attribute__((ifunc("resolve_free")));

static void pairs(void *state) {
    for (long i = *(long *)state; i > 0; i--) {
        void *object = malloc(SIZE);
        used(object);
        free(object);
    }
}

static void nothing(void *state) {
    for (long i = *(long *)state; i > 0; i--) {
        void *object = nothing_take(SIZE);
        used(object);
        nothing_free(object);
    }
}

void pair(int argc, char **argv) {
    (void)argc, (void)argv;
    /* Windows of a few microseconds: most of them are undisturbed even on a busy machine. */
    long count = 1000;
    int rounds = amount(20000, 4000);
    measure("near_", rounds, count, nothing, &count);
    measure("", rounds, count, pairs, &count);
}
