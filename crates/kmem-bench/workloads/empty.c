/* A library with a malloc and a free that do nothing, preloaded as allocators are: the floor of the workload `pair`.
 * Programs that use what it allocates do not work with it. */
#include <stddef.h>

static char place[64];

void *malloc(size_t size) {
    __asm__ volatile("" : : "r"(size));
    return place;
}

void free(void *object) { __asm__ volatile("" : : "r"(object) : "memory"); }
