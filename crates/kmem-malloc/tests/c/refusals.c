/* What cannot be had is refused, cleanly: NULL with ENOMEM for sizes that no machine has, products and roundings that
 * overflow are noticed and not wrapped into a small block, a refused realloc leaves the old block alone, posix_memalign
 * returns its error, sets errno where memory ends (as glibc does) and not where it refuses an alignment, and never touches
 * the pointer, and free never disturbs errno.
 */
#include "check.h"

#include <stdint.h>
#include <sys/mman.h>

#define UNTOUCHED 4242

/* `given` is what the call gave, with errno set to UNTOUCHED before it. */
static void refused(void *given, const char *call, size_t a, size_t b)
{
    int error = errno;
    CHECK(given == NULL, "%s(%zx, %zx hex) to be refused, got %p", call, a, b, given);
    CHECK(error == ENOMEM, "%s(%zx, %zx hex) to set errno ENOMEM (%d), got %d", call, a, b, ENOMEM, error);
    if (given)
        free(given);
}

#define REFUSED(call, a, b)                                                                                            \
    do {                                                                                                               \
        errno = UNTOUCHED;                                                                                             \
        void *given = call;                                                                                            \
        refused(given, #call, a, b);                                                                                   \
    } while (0)

/* Sizes that no address space has, close to where additions wrap. */
static const size_t absurd[] = {
    SIZE_MAX,          SIZE_MAX - 1,          SIZE_MAX - 7,          SIZE_MAX - 8,       SIZE_MAX - 15, SIZE_MAX - 16,
    SIZE_MAX - 31,     SIZE_MAX - 63,         SIZE_MAX - 64,         SIZE_MAX - 127,     SIZE_MAX - 4094, SIZE_MAX - 4095,
    SIZE_MAX - 4096,   SIZE_MAX - 8192,       SIZE_MAX - 65535,      SIZE_MAX - 65536,   SIZE_MAX - (2 * MIB - 1),
    SIZE_MAX - 2 * MIB, SIZE_MAX - 4 * MIB,   SIZE_MAX / 2 + 2,      SIZE_MAX / 2 + 1,   SIZE_MAX / 2,
    SIZE_MAX / 2 - 4095, SIZE_MAX / 2 - 65536, (size_t)1 << 62,      (size_t)1 << 48,    (size_t)1 << 47,
};

static void absurd_sizes(void)
{
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
        size_t size = opaque(absurd[i]);
        REFUSED(malloc(size), size, 0);
        REFUSED(calloc(1, size), 1, size);
        REFUSED(calloc(size, 1), size, 1);
        REFUSED(realloc(NULL, size), 0, size);
        REFUSED(reallocarray(NULL, 1, size), 1, size);
        REFUSED(valloc(size), size, 0);
        REFUSED(pvalloc(size), size, 0);
        for (size_t alignment = 16; alignment <= 4 * MIB; alignment *= 4) {
            REFUSED(aligned_alloc(alignment, size), alignment, size);
            REFUSED(memalign(alignment, size), alignment, size);
            void *mark = &mark, *p = mark;
            errno = UNTOUCHED;
            int error = posix_memalign(&p, alignment, size);
            CHECK(errno == ENOMEM, "posix_memalign where memory ends to set errno ENOMEM, got %d", errno);
            CHECK(error == ENOMEM, "posix_memalign(%zu, %zx hex) to return ENOMEM (%d), got %d", alignment, size,
                  ENOMEM, error);
            CHECK(p == mark, "posix_memalign that fails not to touch the pointer");
        }
    }
}

static void products_that_wrap(void)
{
    static const size_t pairs[][2] = {
        {SIZE_MAX / 2 + 2, 2},           {SIZE_MAX / 3 + 2, 3},        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, ((size_t)1 << 32) + 1},                {SIZE_MAX, SIZE_MAX},
        {SIZE_MAX / 16 + 1, 16},         {SIZE_MAX / 4096 + 1, 4096},  {(size_t)1 << 63, 2},
        {((size_t)1 << 63) + 8, 2},      {SIZE_MAX, 2},                {0x4000000000000001u, 4},
    };
    char *kept = (char *)malloc(1000);
    REQUIRE(kept, "malloc(1000) to give memory");
    pattern_fill(kept, 1000, 77);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t a = opaque(pairs[i][0]), b = opaque(pairs[i][1]);
        REFUSED(calloc(a, b), a, b);
        REFUSED(calloc(b, a), b, a);
        REFUSED(reallocarray(NULL, a, b), a, b);
        REFUSED(reallocarray(opaque_pointer(kept), a, b), a, b);
        REFUSED(reallocarray(opaque_pointer(kept), b, a), b, a);
    }
    CHECK(pattern_holds(kept, 1000, 1000, 77), "a refused reallocarray to leave the block as it was");
    free(kept);
}

static void refused_realloc_keeps(void)
{
    static const size_t sizes[] = {1, 24, 1000, 33000, 300000, 3 * 1024 * 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        void *p = malloc(size);
        REQUIRE(p, "malloc(%zu) to give memory", size);
        pattern_fill(p, size, i);
        for (size_t k = 0; k < sizeof absurd / sizeof *absurd; k++)
            REFUSED(realloc(p, opaque(absurd[k])), 0, absurd[k]);
        CHECK(pattern_holds(p, size, size, i), "a refused realloc to leave the block of %zu bytes as it was", size);
        free(p);
    }
}

static void bad_alignments(void)
{
    static const size_t bad[] = {0, 1, 2, 4, 7, 9, 12, 24, 100, 4095, 4097, SIZE_MAX, SIZE_MAX / 2, ((size_t)1 << 63) + 8};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *mark = &mark, *p = mark;
        errno = UNTOUCHED;
        int result = posix_memalign(&p, opaque(bad[i]), 100);
        int error = errno;
        CHECK(result == EINVAL, "posix_memalign(%zu, 100) to return EINVAL (%d), got %d", bad[i], EINVAL, result);
        CHECK(error == UNTOUCHED, "posix_memalign to return EINVAL and not to set errno, which became %d", error);
        CHECK(p == mark, "posix_memalign that fails not to touch the pointer");

        /* aligned_alloc and memalign may round an odd alignment up (glibc did until 2.38) or refuse it. */
        errno = UNTOUCHED;
        p = aligned_alloc(opaque(bad[i]), 100);
        CHECK(p || errno == EINVAL || errno == ENOMEM, "aligned_alloc(%zu, 100) that refuses to set errno, got %d",
              bad[i], errno);
        free(p);
        errno = UNTOUCHED;
        p = memalign(opaque(bad[i]), 100);
        CHECK(p || errno == EINVAL || errno == ENOMEM, "memalign(%zu, 100) that refuses to set errno, got %d", bad[i],
              errno);
        free(p);
    }
    /* A power of two, but more than there is: a refusal of either kind. */
    for (int bit = 47; bit < 64; bit++) {
        size_t alignment = opaque((size_t)1 << bit);
        errno = UNTOUCHED;
        void *p = aligned_alloc(alignment, 100);
        CHECK(!p && (errno == ENOMEM || errno == EINVAL), "aligned_alloc(2^%d, 100) to be refused, got %p, errno %d",
              bit, p, errno);
        free(p);
        void *q = NULL;
        int result = posix_memalign(&q, alignment, 100);
        CHECK(result == ENOMEM || result == EINVAL, "posix_memalign(2^%d, 100) to be refused, got %d", bit, result);
        if (result == 0)
            free(q);
    }
}

/* What was asked for directly can be refused by the system behind free (munmap, madvise); the caller must not see it. */
static void free_keeps_errno(void)
{
    for (size_t i = 0; i < BOUNDARY_SIZES; i++) {
        size_t size = boundary_size(i);
        for (int form = 0; form < 4; form++) {
            if (form >= 2 && !(free_sized && free_aligned_sized))
                continue;
            void *p = form == 1 || form == 3 ? aligned_alloc(4096, size) : malloc(size);
            REQUIRE(p, "%zu bytes", size);
            *(volatile char *)p = 1;
            errno = UNTOUCHED;
            if (form == 2)
                free_sized(p, size);
            else if (form == 3)
                free_aligned_sized(p, 4096, size);
            else
                free(p);
            CHECK(errno == UNTOUCHED, "the free of %zu bytes to leave errno alone, it became %d", size, errno);
        }
    }
    errno = UNTOUCHED;
    free(NULL);
    CHECK(errno == UNTOUCHED, "free(NULL) to leave errno alone, it became %d", errno);
    /* Many at once, so that the way back to the slabs and to the system is walked too. */
    enum { MANY = 50000 };
    static void *blocks[MANY];
    for (size_t i = 0; i < MANY; i++)
        REQUIRE(blocks[i] = malloc(i % 3000 + 1), "malloc of %zu bytes to give memory", i % 3000 + 1);
    errno = UNTOUCHED;
    for (size_t i = 0; i < MANY; i++)
        free(blocks[i]);
    CHECK(errno == UNTOUCHED, "fifty thousand frees to leave errno alone, it became %d", errno);
}

int main(void)
{
    begin("refusals");
    absurd_sizes();
    products_that_wrap();
    refused_realloc_keeps();
    bad_alignments();
    free_keeps_errno();
    return finish();
}
