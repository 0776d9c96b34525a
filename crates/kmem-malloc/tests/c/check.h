/* Shared by all conformance programs: assertions that say what was expected, a pattern that shows whether memory was
 * shared, lost or moved, and the proof that the library under test is the one that serves this process.
 *
 * A program calls begin() first and ends with `return finish();`. CHECK counts a failure and goes on, REQUIRE stops the
 * program, both print the file, the line, what was expected and the expression that was not true. Nothing in here
 * allocates, so that a broken allocator can still be reported on. After twenty failures the program stops.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
#define MAY_THROW noexcept
extern "C" {
#else
#define MAY_THROW
#endif
/* C23: not in every libc yet, so a weak reference; the library under test has to have them. */
__attribute__((weak)) void free_sized(void *p, size_t size) MAY_THROW;
__attribute__((weak)) void free_aligned_sized(void *p, size_t alignment, size_t size) MAY_THROW;
#ifdef __cplusplus
}
#endif

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static const char *check_program = "?";
static long check_count, check_failures;

__attribute__((format(printf, 4, 5), unused)) static void
check_failed(const char *file, int line, const char *condition, const char *expected, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, expected);
    vsnprintf(text, sizeof text, expected, arguments);
    va_end(arguments);
    const char *slash = strrchr(file, '/');
    dprintf(2, "%s:%d: expected %s\n    not true: %s\n", slash ? slash + 1 : file, line, text, condition);
    if (__atomic_add_fetch(&check_failures, 1, __ATOMIC_RELAXED) >= 20) {
        dprintf(2, "%s: too many failures\n", check_program);
        _exit(1);
    }
}

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        __atomic_fetch_add(&check_count, 1, __ATOMIC_RELAXED);                                                         \
        if (!(condition))                                                                                              \
            check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                                                 \
    } while (0)

#define REQUIRE(condition, ...)                                                                                        \
    do {                                                                                                               \
        __atomic_fetch_add(&check_count, 1, __ATOMIC_RELAXED);                                                         \
        if (!(condition)) {                                                                                            \
            check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                                                 \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* Whether this run is one of the library, and not of a control without it: KMEM_EXPECT is 1 where it is preloaded, and
 * `static` where it is linked in. */
__attribute__((unused)) static int kmem_expected(void)
{
    const char *expect = getenv("KMEM_EXPECT");
    return expect && (strcmp(expect, "1") == 0 || strcmp(expect, "static") == 0);
}

/* Looks for the library in the process's memory map, without allocating. */
__attribute__((unused)) static int kmem_is_loaded(void)
{
    static const char name[] = "libkmem_malloc";
    static char window[4096 + sizeof name];
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), found = 0;
    size_t kept = 0;
    ssize_t got;
    while (!found && (got = read(file, window + kept, 4096)) > 0) {
        size_t have = kept + (size_t)got;
        found = memmem(window, have, name, sizeof name - 1) != NULL;
        kept = have < sizeof name - 1 ? have : sizeof name - 2;
        memmove(window, window + have - kept, kept);
    }
    close(file);
    return found;
}

__attribute__((unused)) static void begin(const char *program)
{
    check_program = program;
    if (kmem_expected()) {
        REQUIRE(getenv("KMEM_EXPECT")[0] == 's' || kmem_is_loaded(),
            "libkmem_malloc in /proc/self/maps of %s: the preload was not loaded", program);
        REQUIRE(free_sized && free_aligned_sized, "free_sized and free_aligned_sized exported by the library");
    }
}

__attribute__((unused)) static int finish(void)
{
    dprintf(1, "%s: %ld checks, %ld failed\n", check_program, check_count, check_failures);
    return check_failures ? 1 : 0;
}

/* Hide a value from the compiler, which otherwise warns of, or optimises away, what a test does on purpose. */
__attribute__((unused)) static size_t opaque(size_t n)
{
    volatile size_t hidden = n;
    return hidden;
}

__attribute__((unused)) static void *opaque_pointer(const void *p)
{
    void *volatile hidden = (void *)(uintptr_t)p;
    return hidden;
}

__attribute__((unused)) static int aligned_to(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

__attribute__((unused)) static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- The pattern ------------------------------------------------------------------------------------------------
 * The byte at offset i of a block with a seed depends on (seed, i) alone, so a prefix stays checkable when a block is
 * resized. Blocks up to 8 KiB are written whole; of longer ones the first and last 512 bytes and eight bytes a stride
 * are: enough to notice another owner, and cheap enough for 128 MiB. */
#define PATTERN_WHOLE (8 * KIB)
#define PATTERN_EDGE ((size_t)512)

static inline uint64_t pattern_word(uint64_t seed, size_t index)
{
    uint64_t word = (seed + index) * 0x9e3779b97f4a7c15u;
    return word ^ (word >> 32);
}

static inline unsigned char pattern_byte(uint64_t seed, size_t i)
{
    return (unsigned char)(pattern_word(seed, i >> 3) >> ((i & 7) * 8));
}

/* Writes or checks the bytes [from, to): by words in the middle (whose bytes are in this order on a little-endian
 * machine), by bytes at the edges and to name the first wrong one. */
static inline int pattern_span(unsigned char *p, size_t from, size_t to, uint64_t seed, int write, size_t *wrong)
{
    size_t i = from;
    while (i < to) {
        if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && i % 8 == 0 && to - i >= 8) {
            uint64_t word = pattern_word(seed, i / 8), found;
            if (write)
                memcpy(p + i, &word, 8);
            memcpy(&found, p + i, 8);
            if (found == word) {
                i += 8;
                continue;
            }
        }
        if (write) {
            p[i] = pattern_byte(seed, i);
        } else if (p[i] != pattern_byte(seed, i)) {
            *wrong = i;
            return 0;
        }
        i++;
    }
    return 1;
}

static inline int pattern_walk(unsigned char *p, size_t written, size_t upto, uint64_t seed, int write, size_t *wrong)
{
    if (written <= PATTERN_WHOLE)
        return pattern_span(p, 0, upto, seed, write, wrong);
    size_t stride = written <= 4 * MIB ? 4 * KIB : MIB, tail = written - PATTERN_EDGE;
    if (!pattern_span(p, 0, upto < PATTERN_EDGE ? upto : PATTERN_EDGE, seed, write, wrong))
        return 0;
    for (size_t i = stride; i + 8 <= upto; i += stride)
        if (!pattern_span(p, i, i + 8, seed, write, wrong))
            return 0;
    return tail >= upto || pattern_span(p, tail, upto, seed, write, wrong);
}

__attribute__((unused)) static void pattern_fill(void *p, size_t size, uint64_t seed)
{
    size_t wrong;
    pattern_walk((unsigned char *)p, size, size, seed, 1, &wrong);
}

/* Checks the first `upto` bytes of a block that was filled when it was `written` bytes long. */
__attribute__((unused)) static int pattern_holds(const void *p, size_t written, size_t upto, uint64_t seed)
{
    size_t wrong = 0;
    if (pattern_walk((unsigned char *)(uintptr_t)p, written, upto, seed, 0, &wrong))
        return 1;
    dprintf(2, "    block %p of %zu bytes: byte %zu is 0x%02x, its pattern says 0x%02x\n", p, written, wrong,
            ((const unsigned char *)p)[wrong], pattern_byte(seed, wrong));
    return 0;
}

/* The offset of the first byte that is not zero, or `size`. */
__attribute__((unused)) static size_t first_nonzero(const void *p, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)p;
    size_t i = 0;
    for (; i < size && ((uintptr_t)(bytes + i) & 7); i++)
        if (bytes[i])
            return i;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        if (word)
            break;
    }
    for (; i < size; i++)
        if (bytes[i])
            return i;
    return size;
}

/* Sizes on, under and over every boundary at which an allocator may change its mind. */
static const size_t boundary_bases[] = {
    8,       16,      24,       32,       48,       64,        80,        96,      128,     160,     192,      256,
    320,     512,     1 * KIB,  2 * KIB,  3 * KIB,  4 * KIB,   8 * KIB,   16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB,
    256 * KIB, 512 * KIB, 1 * MIB, 2 * MIB, 4 * MIB, 32 * MIB, 64 * MIB, 128 * MIB,
};
#define BOUNDARY_BASES (sizeof boundary_bases / sizeof *boundary_bases)
#define BOUNDARY_SIZES (3 * BOUNDARY_BASES)

__attribute__((unused)) static size_t boundary_size(size_t i)
{
    return boundary_bases[i / 3] + i % 3 - 1;
}

/* Resident memory of this process in bytes, or its whole address space: fields 1 and 0 of /proc/self/statm. */
__attribute__((unused)) static size_t process_bytes(int field)
{
    char text[256];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    text[got > 0 ? got : 0] = 0;
    char *at = text;
    unsigned long pages = 0;
    for (int i = 0; i <= field; i++)
        pages = strtoul(at, &at, 10);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}
#define ADDRESS_SPACE 0
#define RESIDENT 1

#endif
