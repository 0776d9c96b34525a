/* A server that defragments itself, of the shape of those that ask their allocator what to move: it fills with strings
 * of many sizes, three of four go at random, and then it walks over what is left and moves what is worth it. Prints how
 * many bytes of slabs there are for each byte in use, before and after, and how many it moved. */
#include "check.h"

#include <pthread.h>

#include "../../include/kmem.h"

enum { ENTRIES = 400000, PASSES = 20 };

struct entry {
    char *text;
    size_t size;
};

static struct entry entries[ENTRIES];
static size_t live, live_bytes;

static double fragmentation(void)
{
    kmem_memory_figures memory;
    REQUIRE(kmem_release_memory(NULL) == 0, "a release");
    REQUIRE(kmem_memory_stats(&memory, sizeof memory) == 0, "figures");
    return (double)memory.slabs / (double)memory.in_use;
}

/* Like allocators' users do it: decide, allocate, copy, free, change the pointer. */
static size_t walk(void)
{
    size_t moved = 0;
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *entry = &entries[i];
        if (!entry->text || !kmem_worth_moving(entry->text))
            continue;
        char *text = kmem_alloc_packed(entry->size);
        REQUIRE(text, "memory to move to");
        memcpy(text, entry->text, entry->size);
        kmem_free_packed(entry->text);
        entry->text = text;
        moved++;
    }
    return moved;
}

static void general(void)
{
    uint64_t random = 1;
    for (size_t i = 0; i < ENTRIES; i++) {
        entries[i].size = 20 + next_random(&random) % 300;
        entries[i].text = malloc(entries[i].size);
        REQUIRE(entries[i].text, "memory");
        pattern_fill(entries[i].text, entries[i].size, i);
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        if (next_random(&random) % 4) {
            free(entries[i].text);
            entries[i].text = NULL;
        } else {
            live++;
            live_bytes += entries[i].size;
        }
    }
    double before = fragmentation();
    size_t moved = 0, passes = 0, now;
    do
        moved += now = walk();
    while (++passes < PASSES && now > live / 100);
    double after = fragmentation();
    dprintf(1, "defrag: %zu of %zu moved in %zu passes, fragmentation %.3f before, %.3f after\n", moved, live, passes,
        before, after);
    CHECK(before > 2, "a fragmented heap, got %.3f", before);
    CHECK(after < 1.05, "a packed heap, got %.3f", after);
    CHECK(moved < live, "each string to move at most once on average, %zu moves of %zu", moved, live);
    for (size_t i = 0; i < ENTRIES; i++) {
        if (entries[i].text)
            CHECK(pattern_holds(entries[i].text, entries[i].size, entries[i].size, i), "string %zu as it was", i);
        free(entries[i].text);
    }
}

/* The same with objects of a cache, on two threads that walk over halves of it at once. */
static struct {
    kmem_cache *cache;
    void *objects[50000];
} shared;

static void *walk_half(void *argument)
{
    size_t begin = (size_t)argument * 25000;
    for (int pass = 0; pass < 3; pass++) {
        for (size_t i = begin; i < begin + 25000; i++) {
            if (shared.objects[i] && kmem_worth_moving(shared.objects[i])) {
                void *moved = kmem_cache_alloc_packed(shared.cache);
                REQUIRE(moved, "an object to move to");
                memcpy(moved, shared.objects[i], 120);
                kmem_free_packed(shared.objects[i]);
                shared.objects[i] = moved;
            }
        }
    }
    return NULL;
}

static void cache(void)
{
    kmem_cache_figures before, after;
    uint64_t random = 2;
    shared.cache = kmem_cache_create("entries", 120, 8, NULL, NULL, NULL);
    REQUIRE(shared.cache && kmem_cache_alloc_bulk(shared.cache, 50000, shared.objects) == 50000, "objects");
    for (size_t i = 0; i < 50000; i++) {
        pattern_fill(shared.objects[i], 120, i);
        if (next_random(&random) % 8) {
            CHECK(kmem_cache_free(shared.cache, shared.objects[i]) == 0, "an object freed");
            shared.objects[i] = NULL;
        }
    }
    REQUIRE(kmem_cache_shrink(shared.cache, NULL) == 0, "a release");
    REQUIRE(kmem_cache_stats(shared.cache, &before, sizeof before) == 0, "figures");
    pthread_t walkers[2];
    for (size_t i = 0; i < 2; i++)
        REQUIRE(pthread_create(&walkers[i], NULL, walk_half, (void *)i) == 0, "a thread");
    for (size_t i = 0; i < 2; i++)
        pthread_join(walkers[i], NULL);
    REQUIRE(kmem_cache_shrink(shared.cache, NULL) == 0, "a release");
    REQUIRE(kmem_cache_stats(shared.cache, &after, sizeof after) == 0, "figures");
    CHECK(after.in_use == before.in_use && after.bytes < before.bytes / 4, "%zu bytes for %zu objects, before %zu",
        after.bytes, after.in_use, before.bytes);
    for (size_t i = 0; i < 50000; i++) {
        if (shared.objects[i]) {
            CHECK(pattern_holds(shared.objects[i], 120, 120, i), "object %zu as it was", i);
            CHECK(kmem_cache_free(shared.cache, shared.objects[i]) == 0, "it freed");
        }
    }
    CHECK(kmem_cache_destroy(shared.cache) == 0, "nothing lost");
}

static void any_address(void)
{
    char *large = malloc(4 * MIB), *alone = malloc(30000);
    CHECK(!kmem_worth_moving(NULL) && !kmem_worth_moving(&large) && !kmem_worth_moving((void *)UINTPTR_MAX), "no object");
    CHECK(!kmem_worth_moving(large) && !kmem_worth_moving(large + 16), "a large block to stay");
    CHECK(!kmem_worth_moving(alone) && !kmem_worth_moving(alone + 8), "an object without another slab to stay");
    kmem_free_packed(NULL);
    kmem_free_packed(large);
    kmem_free_packed(alone);
    errno = 0;
    CHECK(kmem_alloc_packed(opaque(SIZE_MAX)) == NULL && errno == ENOMEM, "no memory");
    CHECK(kmem_cache_alloc_packed(NULL) == NULL && errno == EINVAL, "no cache");
    large = kmem_alloc_packed(4 * MIB);
    REQUIRE(large, "a large block");
    memset(large, 1, 4 * MIB);
    free(large);
    free(kmem_alloc_packed(0));
}

int main(void)
{
    begin("defrag");
    general();
    cache();
    any_address();
    return finish();
}
