/* Buffers that grow by realloc, a few of them in turn; and large objects, each of whose pages is written. */
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

static void replace(void *state) {
    struct random random = random_from(4);
    for (long i = *(long *)state; i > 0; i--) {
        char **slot = &slots[random_below(&random, SLOTS)];
        free(*slot);
        size_t size = random_size(&random, 17, 22);
        *slot = take(size);
        for (size_t page = 0; page < size; page += PAGE) (*slot)[page] = 1;
    }
}

void large_objects(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(1000, 200);
    measure("", 3, count, replace, &count);
    for (int i = 0; i < SLOTS; i++) free(slots[i]);
}
