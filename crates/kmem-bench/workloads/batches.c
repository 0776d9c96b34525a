/* Batches of objects: freed by their own thread in varying order, some of them late (sh6); freed by any thread (sh8);
 * and small ones that always go to another thread (xmalloc). */
#define _GNU_SOURCE
#include "suite.h"

#include <stdlib.h>

void *places[PLACES];

void clear_places(void) {
    for (int i = 0; i < PLACES; i++) free(swap_place(i, NULL));
}

/* ---- sh6: most objects are small, one batch in eight outlives the next seven ---- */

enum { BATCH = 256, LATE = 8 };

static void own_batches(int number, void *state) {
    struct random random = random_from(200 + number);
    void *late[LATE][BATCH / LATE] = {0};
    for (long batch = 0; batch < *(long *)state; batch++) {
        void *objects[BATCH];
        for (int i = 0; i < BATCH; i++) objects[i] = take(random_size(&random, 3, i % 16 ? 7 : 10));
        for (int i = 0; i < BATCH / LATE; i++) {
            free(late[batch % LATE][i]);
            late[batch % LATE][i] = objects[i * LATE];
            objects[i * LATE] = NULL;
        }
        if (batch % 2)
            for (int i = 0; i < BATCH; i++) free(objects[i]);
        else
            for (int i = BATCH; i-- > 0;) free(objects[i]);
    }
    for (int i = 0; i < LATE; i++)
        for (int k = 0; k < BATCH / LATE; k++) free(late[i][k]);
}

static void run_sh6(void *state) { on_threads(cpus(), own_batches, state); }

void sh6(int argc, char **argv) {
    (void)argc, (void)argv;
    long batches = amount(5000, 500);
    measure("", 2, batches * BATCH * cpus(), run_sh6, &batches);
}

/* ---- sh8: of the same batches, every second object is swapped with another thread's ---- */

static void shared_batches(int number, void *state) {
    struct random random = random_from(300 + number);
    for (long batch = 0; batch < *(long *)state; batch++) {
        void *objects[BATCH];
        for (int i = 0; i < BATCH; i++) objects[i] = take(random_size(&random, 3, i % 16 ? 7 : 10));
        for (int i = 0; i < BATCH; i += 2) objects[i] = swap_place(random_next(&random) >> 32, objects[i]);
        for (int i = 0; i < BATCH; i++) free(objects[i]);
    }
}

static void run_sh8(void *state) { on_threads(cpus(), shared_batches, state); }

void sh8(int argc, char **argv) {
    (void)argc, (void)argv;
    long batches = amount(5000, 500);
    measure("", 2, batches * BATCH * cpus(), run_sh8, &batches);
    clear_places();
}

/* ---- xmalloc: arrays of 120 objects go from the threads that fill them to those that empty them ---- */

enum { ARRAY = 120 };
struct array { void *objects[ARRAY]; };

static void exchange(int number, void *state) {
    struct random random = random_from(400 + number);
    for (long i = 0; i < *(long *)state; i++) {
        struct array *array = take(sizeof *array);
        for (int k = 0; k < ARRAY; k++) array->objects[k] = take(random_size(&random, 4, 9));
        struct array *other = swap_place(random_below(&random, 64), array);
        for (int k = 0; other && k < ARRAY; k++) free(other->objects[k]);
        free(other);
    }
}

static void run_xmalloc(void *state) { on_threads(2 * cpus(), exchange, state); }

void xmalloc(int argc, char **argv) {
    (void)argc, (void)argv;
    long arrays = amount(4000, 400);
    measure("", 2, arrays * ARRAY * 2 * cpus(), run_xmalloc, &arrays);
    for (int i = 0; i < 64; i++) {
        struct array *array = swap_place(i, NULL);
        for (int k = 0; array && k < ARRAY; k++) free(array->objects[k]);
        free(array);
    }
}
