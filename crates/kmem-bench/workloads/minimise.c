/* Two-level minimisation of random Boolean functions (as espresso does it): lists of cubes, each an object of its own,
 * that are merged in pairs to larger ones until nothing merges. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { VARIABLES = 9 };

/* A product of literals: variables in `mask` do not occur. */
struct cube { struct cube *next; uint32_t value, mask; int merged; };

struct cover { struct cube **cubes; size_t count, room; };

static void add(struct cover *cover, uint32_t value, uint32_t mask) {
    for (size_t i = 0; i < cover->count; i++)
        if (cover->cubes[i]->value == value && cover->cubes[i]->mask == mask) return;
    if (cover->count == cover->room) {
        cover->room = cover->room ? cover->room * 2 : 4;
        cover->cubes = realloc(cover->cubes, cover->room * sizeof *cover->cubes);
        if (!cover->cubes) fail("no memory");
    }
    struct cube *cube = take(sizeof *cube);
    *cube = (struct cube){.value = value, .mask = mask};
    cover->cubes[cover->count++] = cube;
}

static void release(struct cover *cover) {
    for (size_t i = 0; i < cover->count; i++) free(cover->cubes[i]);
    free(cover->cubes);
    *cover = (struct cover){0};
}

/* All prime implicants of one function, counted. Cubes are grouped by their number of ones. */
static long primes(struct random *random) {
    struct cover groups[VARIABLES + 2] = {0};
    long found = 0;
    for (uint32_t point = 0; point < 1 << VARIABLES; point++)
        if (random_below(random, 100) < 35) add(&groups[__builtin_popcount(point)], point, 0);
    for (int merged = 1; merged;) {
        struct cover larger[VARIABLES + 2] = {0};
        merged = 0;
        for (int ones = 0; ones <= VARIABLES; ones++)
            for (size_t i = 0; i < groups[ones].count; i++)
                for (size_t k = 0; k < groups[ones + 1].count; k++) {
                    struct cube *a = groups[ones].cubes[i], *b = groups[ones + 1].cubes[k];
                    uint32_t difference = a->value ^ b->value;
                    if (a->mask != b->mask || difference & (difference - 1)) continue;
                    a->merged = b->merged = merged = 1;
                    add(&larger[ones], a->value, a->mask | difference);
                }
        for (int ones = 0; ones <= VARIABLES + 1; ones++) {
            for (size_t i = 0; i < groups[ones].count; i++) found += !groups[ones].cubes[i]->merged;
            release(&groups[ones]);
            groups[ones] = larger[ones];
        }
    }
    for (int ones = 0; ones <= VARIABLES + 1; ones++) release(&groups[ones]);
    return found;
}

static void functions(void *state) {
    struct random random = random_from(8);
    for (long i = 0; i < *(long *)state; i++) used((void *)primes(&random));
}

void minimise(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(60, 10);
    measure("", 5, count, functions, &count);
}
