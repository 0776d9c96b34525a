/* Buffers that grow by realloc, a few of them in turn; and large objects of two ranges, each of whose pages is
   written. */
#include "bench.h"

#include <stdlib.h>

enum { BUFFERS = 16, LARGEST = 1 << 20, PAGE = 4096 };

static long growths;

static void grow(void *state) {
    growths = 0;
    for (long i = *(long *)state; i > 0; i--) {
        char *buffers[BUFFERS] = {0};
        for (size_t size = 16; size <= LARGEST; size += size / 2)
            for (int buffer = 0; buffer < BUFFERS; buffer++, growths++) {
                buffers[buffer] = realloc(buffers[buffer], size);
                if (!buffers[buffer]) fail("no memory");
                buffers[buffer][size - 1] = 1;
            }
        for (int buffer = 0; buffer < BUFFERS; buffer++) free(buffers[buffer]);
    }
}

void realloc_growth(int argc, char **argv) {
    (void)argc, (void)argv;
    long one = 1, count = amount(20, 5);
    grow(&one);
    measure("", 3, count * growths, grow, &count);
}

enum { SLOTS = 24 };
static char *slots[SLOTS];

struct range {
    int smallest_log, largest_log;
    long count;
};

static void replace(void *state) {
    const struct range *range = state;
    struct random random = random_from(4);
    for (long i = range->count; i > 0; i--) {
        char **slot = &slots[random_below(&random, SLOTS)];
        free(*slot);
        size_t size = random_size(&random, range->smallest_log, range->largest_log);
        *slot = take(size);
        for (size_t page = 0; page < size; page += PAGE) (*slot)[page] = 1;
    }
}

static void replace_all_of(struct range range) {
    measure("", 3, range.count, replace, &range);
    for (int i = 0; i < SLOTS; i++) free(slots[i]);
}

void large_objects(int argc, char **argv) {
    (void)argc, (void)argv;
    replace_all_of((struct range){17, 22, amount(1000, 200)});
}

void larger_objects(int argc, char **argv) {
    (void)argc, (void)argv;
    replace_all_of((struct range){21, 25, amount(1000, 40)});
}
