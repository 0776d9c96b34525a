/* A thousand objects of 64 bytes at a time, freed in the reverse order or in the same order. */
#include "bench.h"

#include <stdlib.h>

enum { BURST = 1000, SIZE = 64 };

static void *objects[BURST];

static void lifo(void *state) {
    for (long burst = *(long *)state; burst > 0; burst--) {
        for (int i = 0; i < BURST; i++) objects[i] = take(SIZE);
        for (int i = BURST; i-- > 0;) free(objects[i]);
    }
}

static void fifo(void *state) {
    for (long burst = *(long *)state; burst > 0; burst--) {
        for (int i = 0; i < BURST; i++) objects[i] = take(SIZE);
        for (int i = 0; i < BURST; i++) free(objects[i]);
    }
}

void burst_lifo(int argc, char **argv) {
    (void)argc, (void)argv;
    long bursts = 100;
    measure("", amount(100, 25), bursts * BURST, lifo, &bursts);
}

void burst_fifo(int argc, char **argv) {
    (void)argc, (void)argv;
    long bursts = 100;
    measure("", amount(100, 25), bursts * BURST, fifo, &bursts);
}
