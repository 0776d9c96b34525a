/* Objects of one small size after another, in blocks that are allocated and freed as a whole, by one thread or by as
 * many as there are CPUs; and a large table whose entries are replaced at random, with smaller sizes more likely. */
#define _GNU_SOURCE
#include "suite.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 400, SMALLEST = 16, LARGEST = 512, STEP = 16, SIZES = (LARGEST - SMALLEST) / STEP + 1 };

static void one_size_after_another(int number, void *state) {
    (void)number;
    void *objects[BLOCK];
    for (long round = 0; round < *(long *)state; round++)
        for (size_t size = SMALLEST; size <= LARGEST; size += STEP) {
            for (int i = 0; i < BLOCK; i++) objects[i] = take(size);
            for (int i = 0; i < BLOCK; i++) free(objects[i]);
        }
}

static void alone(void *state) { one_size_after_another(0, state); }
static void together(void *state) { on_threads(cpus(), one_size_after_another, state); }

void blocks(int argc, char **argv) {
    (void)argc, (void)argv;
    long rounds = amount(20, 4);
    measure("", 10, rounds * SIZES * BLOCK, alone, &rounds);
}

void blocks_threads(int argc, char **argv) {
    (void)argc, (void)argv;
    long rounds = amount(100, 10);
    measure("", 2, rounds * SIZES * BLOCK * cpus(), together, &rounds);
}

enum { TABLE = 1 << 17 };

static void replace_in_table(int number, void *state) {
    struct random random = random_from(700 + number);
    void **table = own_memory(TABLE * sizeof *table);
    for (long i = 0; i < *(long *)state; i++) {
        void **entry = &table[random_below(&random, TABLE)];
        if (*entry) {
            free(*entry);
            *entry = NULL;
        } else {
            int doublings = __builtin_ctzl(random_next(&random) | 1 << 6);
            *entry = take(random_size(&random, 4, 5 + doublings));
        }
    }
    for (int i = 0; i < TABLE; i++) free(table[i]);
}

static void table_alone(void *state) { replace_in_table(0, state); }
static void tables_together(void *state) { on_threads(cpus(), replace_in_table, state); }

void alloc_test(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(3000000, 300000);
    measure("", 2, count, table_alone, &count);
}

void alloc_test_threads(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(1500000, 150000);
    measure("", 2, count * cpus(), tables_together, &count);
}
