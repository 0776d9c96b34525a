/* A heap of 64 MB of 64-byte objects, far larger than the processor's caches: 256 objects at random places are freed,
 * 256 allocated, and each of those touched. */
#include "bench.h"

#include <stdlib.h>

enum { OBJECTS = 1 << 20, SIZE = 64, BATCH = 256 };

struct heap { void **objects; uint32_t *victims; long batches, next; };

static void turnover(void *state) {
    struct heap *heap = state;
    for (long batch = 0; batch < heap->batches; batch++) {
        uint32_t *victims = &heap->victims[heap->next];
        heap->next = (heap->next + BATCH) % OBJECTS;
        for (int i = 0; i < BATCH; i++) free(heap->objects[victims[i]]);
        for (int i = 0; i < BATCH; i++) {
            char *object = malloc(SIZE);
            if (!object) fail("no memory");
            for (int byte = 0; byte < SIZE; byte += 8) *(volatile uint64_t *)(object + byte) = i;
            heap->objects[victims[i]] = object;
        }
    }
}

void cold_heap(int argc, char **argv) {
    (void)argc, (void)argv;
    struct heap heap = {own_memory(OBJECTS * sizeof(void *)), own_memory(OBJECTS * sizeof(uint32_t)), 20, 0};
    struct random random = random_from(3);
    for (int i = 0; i < OBJECTS; i++) {
        heap.objects[i] = take(SIZE);
        heap.victims[i] = i;
    }
    /* Every object is a victim once before any is a second time, so no batch contains one twice. */
    for (int i = OBJECTS - 1; i > 0; i--) {
        int other = random_below(&random, i + 1);
        uint32_t victim = heap.victims[i];
        heap.victims[i] = heap.victims[other];
        heap.victims[other] = victim;
    }
    measure("", amount(200, 60), heap.batches * BATCH, turnover, &heap);
    for (int i = 0; i < OBJECTS; i++) free(heap.objects[i]);
}
