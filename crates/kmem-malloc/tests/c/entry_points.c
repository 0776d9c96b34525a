/* Every C entry point does what its manual page says, once, on an ordinary day: what comes back is usable, of the asked
 * size and alignment, and can be freed; the sizes 0 and the pointers NULL have the answers that programs rely on.
 * What happens on a bad day is in refusals.c.
 */
#include "check.h"

static void usable(void *p, size_t size, size_t alignment, const char *call)
{
    REQUIRE(p, "%s of %zu bytes to give memory", call, size);
    CHECK(aligned_to(p, alignment), "%s of %zu bytes at a multiple of %zu, got %p", call, size, alignment, p);
    CHECK(malloc_usable_size(p) >= size, "malloc_usable_size after %s at least %zu, got %zu", call, size,
          malloc_usable_size(p));
    memset(p, 0xa5, size);
}

static void each_entry_point(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *p = malloc(size);
    usable(p, size, 16, "malloc");
    free(p);

    p = calloc(size, 3);
    REQUIRE(p, "calloc(%zu, 3) to give memory", size);
    CHECK(first_nonzero(p, 3 * size) == 3 * size, "calloc(%zu, 3) all zero, byte %zu is not", size,
          first_nonzero(p, 3 * size));
    usable(p, 3 * size, 16, "calloc");
    free(p);

    p = realloc(NULL, size);
    usable(p, size, 16, "realloc(NULL)");
    p = realloc(p, size + 100);
    usable(p, size + 100, 16, "realloc");
    p = reallocarray(p, size, 5);
    usable(p, 5 * size, 16, "reallocarray");
    free(p);
    p = reallocarray(NULL, 3, size);
    usable(p, 3 * size, 16, "reallocarray(NULL)");
    free(p);

    p = NULL;
    int error = posix_memalign(&p, 256, size);
    CHECK(error == 0, "posix_memalign(256, %zu) to return 0, got %d", size, error);
    usable(p, size, 256, "posix_memalign");
    free(p);

    /* The size need not be a multiple of the alignment (C17, and every libc before). */
    p = aligned_alloc(512, size);
    usable(p, size, 512, "aligned_alloc");
    free(p);
    p = memalign(1024, size);
    usable(p, size, 1024, "memalign");
    free(p);
    p = valloc(size);
    usable(p, size, page, "valloc");
    free(p);
    p = pvalloc(size);
    usable(p, (size + page - 1) / page * page, page, "pvalloc (its size is rounded up to pages)");
    free(p);

    if (free_sized && free_aligned_sized) {
        p = malloc(size);
        usable(p, size, 16, "malloc");
        free_sized(p, size);
        p = calloc(1, size);
        usable(p, size, 16, "calloc");
        free_sized(p, size);
        p = realloc(malloc(1), size);
        usable(p, size, 16, "realloc");
        free_sized(p, size);
        p = aligned_alloc(64, size);
        usable(p, size, 64, "aligned_alloc");
        free_aligned_sized(p, 64, size);
        p = aligned_alloc(64 * KIB, size);
        usable(p, size, 64 * KIB, "aligned_alloc");
        free_aligned_sized(p, 64 * KIB, size);
    }
}

static void size_zero(void)
{
    enum { MANY = 1000 };
    static void *zero[MANY];
    for (int i = 0; i < MANY; i++) {
        zero[i] = i % 3 == 0 ? malloc(opaque(0)) : i % 3 == 1 ? calloc(opaque(0), 8) : calloc(8, opaque(0));
        REQUIRE(zero[i], "malloc(0), calloc(0, 8) and calloc(8, 0) to give a pointer, the %dth is NULL", i);
    }
    for (int i = 0; i < MANY; i++)
        for (int j = 0; j < i; j++)
            if (zero[i] == zero[j])
                CHECK(zero[i] != zero[j], "pointers of size 0 to differ, number %d and %d are both %p", i, j, zero[i]);
    for (int i = 0; i < MANY; i++)
        free(zero[i]);

    void *p = realloc(NULL, opaque(0));
    CHECK(p, "realloc(NULL, 0) to be malloc(0), which gives a pointer");
    p = realloc(p, 100);
    usable(p, 100, 16, "realloc of a block of size 0");
    free(p);
    free(aligned_alloc(64, opaque(0)));
    free(memalign(64, opaque(0)));
    free(valloc(opaque(0)));
    free(pvalloc(opaque(0)));
    p = NULL;
    int error = posix_memalign(&p, 64, opaque(0));
    CHECK(error == 0, "posix_memalign(64, 0) to return 0, got %d", error);
    free(p);
}

/* realloc(p, 0) frees p and gives NULL (glibc), or gives a new small block (BSD): a program may see either, but never
 * a leak: two thousand times half a megabyte would be noticed. */
static void realloc_to_zero(void)
{
    size_t before = process_bytes(RESIDENT);
    for (int i = 0; i < 2000; i++) {
        size_t size = i % 2 ? 1 * MIB : 20 * KIB;
        char *p = (char *)malloc(size);
        REQUIRE(p, "malloc(%zu) to give memory, turn %d of realloc(p, 0)", size, i);
        for (size_t at = 0; at < size; at += 4096)
            p[at] = 1;
        free(realloc(p, opaque(0)));
        size_t now = i % 100 == 99 ? process_bytes(RESIDENT) : 0;
        REQUIRE(now < before + 256 * MIB, "realloc(p, 0) to free p: resident memory went from %zu to %zu bytes", before,
                now);
    }
}

static void null_pointers(void)
{
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL) to be 0, got %zu", malloc_usable_size(NULL));
    if (free_sized && free_aligned_sized) {
        free_sized(NULL, 0);
        free_sized(NULL, 100);
        free_aligned_sized(NULL, 64, 128);
    }
}

int main(void)
{
    static const size_t sizes[] = {1, 8, 100, 4000, 33000, 70000, 1200000, 3000000};
    begin("entry_points");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        each_entry_point(sizes[i]);
    size_zero();
    realloc_to_zero();
    null_pointers();
    return finish();
}
