/* What is in the blocks: realloc carries the contents over every boundary, upwards and downwards, whether it grows in
 * place, copies, or moves mappings; calloc is zero whether its memory is fresh or was dirty a moment ago.
 */
#include "check.h"

static void realloc_between(size_t from, size_t to, uint64_t seed)
{
    size_t common = from < to ? from : to;
    void *p = malloc(from);
    REQUIRE(p, "malloc(%zu) to give memory", from);
    pattern_fill(p, from, seed);
    void *q = realloc(p, to);
    REQUIRE(q, "realloc from %zu to %zu to give memory", from, to);
    CHECK(pattern_holds(q, from, common, seed), "realloc from %zu to %zu to keep the first %zu bytes", from, to, common);
    CHECK(malloc_usable_size(q) >= to, "realloc to %zu to make that usable, got %zu", to, malloc_usable_size(q));
    CHECK(aligned_to(q, 16), "realloc to %zu at a multiple of 16, got %p", to, q);
    pattern_fill(q, to, ~seed);
    q = realloc(q, from);
    REQUIRE(q, "realloc from %zu back to %zu to give memory", to, from);
    CHECK(pattern_holds(q, to, common, ~seed), "realloc from %zu back to %zu to keep the first %zu bytes", to, from,
          common);
    free(q);
}

/* A neighbour on both sides, so that growing in place over somebody is noticed. */
static void realloc_among_neighbours(size_t from, size_t to)
{
    enum { CROWD = 8 };
    void *crowd[CROWD];
    for (int i = 0; i < CROWD; i++) {
        REQUIRE(crowd[i] = malloc(from), "malloc(%zu) to give memory", from);
        pattern_fill(crowd[i], from, (uint64_t)i);
    }
    for (int i = 0; i < CROWD; i += 2) {
        REQUIRE(crowd[i] = realloc(crowd[i], to), "realloc from %zu to %zu to give memory", from, to);
        CHECK(pattern_holds(crowd[i], from, from < to ? from : to, (uint64_t)i), "realloc from %zu to %zu to keep", from, to);
        pattern_fill(crowd[i], to, (uint64_t)i);
    }
    for (int i = 0; i < CROWD; i++) {
        size_t size = i % 2 ? from : to;
        CHECK(pattern_holds(crowd[i], size, size, (uint64_t)i), "a block of %zu unharmed by its neighbours' realloc", size);
        free(crowd[i]);
    }
}

static void realloc_byte_by_byte(void)
{
    void *p = malloc(1);
    REQUIRE(p, "malloc(1) to give memory");
    pattern_fill(p, 1, 5);
    for (size_t size = 2; size <= 9000; size++) {
        REQUIRE(p = realloc(p, size), "realloc to %zu to give memory", size);
        if (size <= 200 || size % 97 == 0)
            CHECK(pattern_holds(p, size - 1, size - 1 < 8192 ? size - 1 : 8192, 5), "contents kept growing to %zu", size);
        ((unsigned char *)p)[size - 1] = pattern_byte(5, size - 1);
    }
    for (size_t size = 9000; size > 1; size--)
        REQUIRE(p = realloc(p, size), "realloc down to %zu to give memory", size);
    CHECK(pattern_holds(p, 1, 1, 5), "the last byte kept while shrinking");
    free(p);
}

static void doubling_to(size_t limit)
{
    size_t size = 3;
    void *p = malloc(size);
    REQUIRE(p, "malloc(3) to give memory");
    pattern_fill(p, size, 9);
    while (size < limit) {
        size_t next = size * 3 / 2 + 1;
        REQUIRE(p = realloc(p, next), "realloc from %zu to %zu to give memory", size, next);
        CHECK(pattern_holds(p, size, size, 9), "realloc from %zu to %zu to keep the contents", size, next);
        pattern_fill(p, next, 9);
        size = next;
    }
    free(p);
}

static void calloc_is_zero(size_t size)
{
    enum { MANY = 100 };
    static void *block[MANY];
    int many = size <= 64 * KIB ? MANY : size <= 4 * MIB ? 3 : 1;
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < many; i++) {
            /* The three ways to write one size. */
            block[i] = i % 3 == 0 ? calloc(1, size) : i % 3 == 1 ? calloc(size, 1) : calloc((size + 7) / 8, 8);
            REQUIRE(block[i], "calloc of %zu bytes to give memory", size);
            size_t usable = malloc_usable_size(block[i]), at = first_nonzero(block[i], size);
            CHECK(at == size, "calloc of %zu bytes to be zero in turn %d, byte %zu is not", size, turn, at);
            if (size <= 4 * MIB) {
                memset(block[i], 0xff, usable);
            } else {
                for (size_t dirty = 0; dirty < size; dirty += MIB)
                    ((unsigned char *)block[i])[dirty] = 0xff;
                ((unsigned char *)block[i])[size - 1] = 0xff;
            }
        }
        for (int i = 0; i < many; i++)
            free(block[i]);
        /* Dirty through malloc as well: the next turn's calloc may get these. */
        for (int i = 0; i < many && size <= 4 * MIB; i++) {
            REQUIRE(block[i] = malloc(size), "malloc(%zu) to give memory", size);
            memset(block[i], 0xee, size);
        }
        for (int i = 0; i < many && size <= 4 * MIB; i++)
            free(block[i]);
    }
}

/* Memory that served one size serves another: zero still means zero. */
static void calloc_from_another_life(void)
{
    enum { MANY = 2000 };
    static void *block[MANY];
    uint64_t random = 42;
    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < MANY; i++) {
            size_t size = next_random(&random) % (turn % 4 == 0 ? 100000 : turn % 4 == 1 ? 200 : 5000) + 1;
            REQUIRE(block[i] = calloc(size, 1), "calloc of %zu bytes to give memory", size);
            size_t at = first_nonzero(block[i], size);
            CHECK(at == size, "calloc of %zu bytes to be zero, byte %zu is not", size, at);
            memset(block[i], 0xdd, size);
        }
        for (int i = 0; i < MANY; i++)
            free(block[i]);
    }
}

int main(void)
{
    begin("contents");
    /* Every pair; of the pairs with one size beyond 16 MiB, whose pages cost, the close ones and every fourth other. */
    for (size_t i = 0; i < BOUNDARY_SIZES; i++)
        for (size_t j = 0; j < i; j++)
            if (boundary_size(i) <= 16 * MIB || j + 4 > i || (i + j) % 4 == 0)
                realloc_between(boundary_size(i), boundary_size(j), i * 1000 + j);
    for (size_t i = 1; i < BOUNDARY_SIZES && boundary_size(i) < 9 * MIB; i += 3)
        for (size_t j = 1; j < BOUNDARY_SIZES && boundary_size(j) < 9 * MIB; j += 3)
            realloc_among_neighbours(boundary_size(i), boundary_size(j));
    realloc_byte_by_byte();
    doubling_to(300 * MIB);
    for (size_t i = 0; i < BOUNDARY_SIZES; i++)
        calloc_is_zero(boundary_size(i));
    calloc_from_another_life();
    return finish();
}
