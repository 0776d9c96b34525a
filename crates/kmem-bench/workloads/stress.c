/* Threads that keep part of what they allocate and exchange the rest: arrays that grow, of objects of very different
 * sizes (mstress); and sizes spread evenly over 16 bytes to 16 KiB, a third of them freed elsewhere (rptest). */
#define _GNU_SOURCE
#include "suite.h"

#include <stdlib.h>
#include <string.h>

static void keep_and_exchange(int number, void *state) {
    struct random random = random_from(500 + number);
    void **kept = NULL;
    size_t room = 0, count = 0;
    for (long i = 0; i < *(long *)state; i++) {
        /* One in a hundred is large. */
        size_t size = random_below(&random, 100) ? random_size(&random, 4, 10) : random_size(&random, 12, 15);
        void *object = take(size);
        uint64_t fate = random_below(&random, 16);
        if (fate < 6) {
            if (count == room) {
                room = room ? 2 * room : 16;
                kept = realloc(kept, room * sizeof *kept);
                if (!kept) fail("no memory");
            }
            kept[count++] = object;
        } else if (fate < 8) {
            free(swap_place(random_next(&random) >> 32, object));
        } else {
            free(object);
        }
        if (count > 4 && fate % 2) free(kept[--count]);
        if (count > 5000)
            while (count > 1000) free(kept[--count]);
    }
    while (count > 0) free(kept[--count]);
    free(kept);
}

static void run_mstress(void *state) { on_threads(2 * cpus(), keep_and_exchange, state); }

void mstress(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(300000, 30000);
    measure("", 2, count * 2 * cpus(), run_mstress, &count);
    clear_places();
}

enum { KEPT = 2000 };

static void evenly(int number, void *state) {
    struct random random = random_from(600 + number);
    void **kept = take(KEPT * sizeof *kept);
    memset(kept, 0, KEPT * sizeof *kept);
    for (long i = 0; i < *(long *)state; i++) {
        void **object = &kept[random_below(&random, KEPT)];
        free(*object);
        *object = take(16 + random_below(&random, 16384 - 16));
        if (i % 3 == 0) *object = swap_place(random_next(&random) >> 32, *object);
    }
    for (int i = 0; i < KEPT; i++) free(kept[i]);
    free(kept);
}

static void run_rptest(void *state) { on_threads(2 * cpus(), evenly, state); }

void rptest(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(150000, 15000);
    measure("", 2, count * 2 * cpus(), run_rptest, &count);
    clear_places();
}
