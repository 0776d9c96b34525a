/* Where blocks lie and how long they are: every size from 1 to 100,000 is 16-byte aligned, every power of two from 8 to
 * 4 MiB is honoured at sizes small and large, the usable size is at least what was asked and all of it may be written,
 * and no two live blocks share a byte of it.
 */
#include "check.h"

static void every_size(void)
{
    enum { HELD = 64 };
    unsigned char *held[HELD] = {0};
    size_t usable[HELD] = {0};
    for (size_t size = 1; size <= 100000; size++) {
        size_t at = size % HELD;
        if (held[at]) {
            size_t last = usable[at] - 1;
            CHECK(held[at][0] == (unsigned char)at && held[at][last] == (unsigned char)at,
                  "both ends of the %zu usable bytes at %p to hold what was written there", usable[at], (void *)held[at]);
            free(held[at]);
        }
        held[at] = (unsigned char *)malloc(size);
        REQUIRE(held[at], "malloc(%zu) to give memory", size);
        CHECK(aligned_to(held[at], 16), "malloc(%zu) at a multiple of 16, got %p", size, (void *)held[at]);
        usable[at] = malloc_usable_size(held[at]);
        REQUIRE(usable[at] >= size, "malloc_usable_size of %zu bytes at least that, got %zu", size, usable[at]);
        held[at][0] = held[at][usable[at] - 1] = (unsigned char)at;
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
}

static void every_alignment(void)
{
    for (size_t alignment = 8; alignment <= 4 * MIB; alignment *= 2) {
        const size_t sizes[] = {1,         7,      16,       100,       alignment - 1, alignment, alignment + 1,
                                3 * alignment, 5000, 33 * KIB, 65 * KIB, 1100 * KIB, 2 * MIB + 1};
        enum { SIZES = sizeof sizes / sizeof *sizes, TURNS = 3 };
        static void *held[TURNS][3 * SIZES];
        for (int turn = 0; turn < TURNS; turn++) {
            for (int i = 0; i < 3 * SIZES; i++) {
                size_t size = sizes[i / 3];
                void *p = NULL;
                int error = 0;
                if (i % 3 == 0)
                    error = posix_memalign(&p, alignment, size);
                else
                    p = i % 3 == 1 ? aligned_alloc(alignment, size) : memalign(alignment, size);
                REQUIRE(!error && p, "%zu bytes at a multiple of %zu, got error %d", size, alignment, error);
                CHECK(aligned_to(p, alignment), "%zu bytes at a multiple of %zu, got %p", size, alignment, p);
                CHECK(malloc_usable_size(p) >= size, "%zu usable bytes (alignment %zu), got %zu", size, alignment,
                      malloc_usable_size(p));
                pattern_fill(p, size, (uint64_t)(uintptr_t)p);
                held[turn][i] = p;
            }
        }
        for (int turn = 0; turn < TURNS; turn++) {
            for (int i = 0; i < 3 * SIZES; i++) {
                size_t size = sizes[i / 3];
                void *p = held[turn][i];
                CHECK(pattern_holds(p, size, size, (uint64_t)(uintptr_t)p),
                      "%zu bytes (alignment %zu) untouched by other blocks", size, alignment);
                /* An aligned block may be given to realloc as well; only 16 is promised afterwards. */
                p = realloc(p, size + 1);
                REQUIRE(p, "realloc of %zu aligned bytes to give memory", size);
                CHECK(pattern_holds(p, size, size, (uint64_t)(uintptr_t)held[turn][i]),
                      "realloc of %zu bytes (alignment %zu) to keep the contents", size, alignment);
                free(p);
            }
        }
    }
}

static void all_usable_is_writable(void)
{
    enum { COPIES = 3 };
    for (size_t i = 0; i < BOUNDARY_SIZES; i++) {
        size_t size = boundary_size(i);
        unsigned char *block[COPIES];
        size_t usable[COPIES];
        for (int k = 0; k < COPIES; k++) {
            block[k] = (unsigned char *)(k == 2 ? calloc(1, size) : malloc(size));
            REQUIRE(block[k], "%zu bytes", size);
            usable[k] = malloc_usable_size(block[k]);
            CHECK(usable[k] >= size, "at least %zu usable bytes, got %zu", size, usable[k]);
            CHECK(aligned_to(block[k], 16), "%zu bytes at a multiple of 16, got %p", size, (void *)block[k]);
            if (usable[k] <= 4 * MIB)
                memset(block[k], k + 1, usable[k]);
            else
                pattern_fill(block[k], usable[k], (uint64_t)k);
        }
        for (int k = 0; k < COPIES; k++) {
            if (usable[k] <= 4 * MIB) {
                size_t at = 0;
                while (at < usable[k] && block[k][at] == k + 1)
                    at++;
                CHECK(at == usable[k], "each of %zu usable bytes to keep what was written, byte %zu did not", usable[k],
                      at);
            } else {
                CHECK(pattern_holds(block[k], usable[k], usable[k], (uint64_t)k), "%zu usable bytes kept", usable[k]);
            }
            CHECK(malloc_usable_size(block[k]) == usable[k], "the usable size to stay %zu, it is %zu", usable[k],
                  malloc_usable_size(block[k]));
        }
        for (int k = 0; k < COPIES; k++)
            free(block[k]);
    }
}

int main(void)
{
    begin("placement");
    every_size();
    every_alignment();
    all_usable_is_writable();
    return finish();
}
