/* What glibc adds to tell of the heap tells of the heap that serves the program: mallinfo, mallinfo2, malloc_info and
 * malloc_stats agree with each other and with what the program holds, large blocks included, before and after it frees
 * them; and mallopt accepts what is done, and refuses what is not.
 */
#include "check.h"

/* So many small blocks are about 6 MiB, so many large ones 48. */
enum { SMALL = 60000, SMALL_SIZE = 100, LARGE = 12 };
#define LARGE_SIZE (4 * MIB)

static void *small_blocks[SMALL], *large_blocks[LARGE];

static size_t in_use(struct mallinfo2 info)
{
    return info.uordblks + info.hblkhd;
}

/* Between two looks other figures may move: libc's own blocks, and what a page rounds up. */
static void about(size_t figure, size_t expected, const char *what)
{
    size_t slack = 512 * KIB + expected / 3;
    CHECK(figure + slack >= expected && figure <= expected + slack, "%s of about %zu bytes, got %zu", what, expected,
          figure);
}

static void agree(void)
{
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo narrow = mallinfo();
    CHECK(wide.arena == wide.uordblks + wide.fordblks, "arena %zu to be uordblks %zu + fordblks %zu", wide.arena,
          wide.uordblks, wide.fordblks);
    CHECK(wide.keepcost <= wide.fordblks, "keepcost %zu to be part of fordblks %zu", wide.keepcost, wide.fordblks);
    CHECK((size_t)narrow.uordblks == wide.uordblks, "mallinfo's uordblks %d to be mallinfo2's %zu", narrow.uordblks,
          wide.uordblks);
    CHECK((size_t)narrow.hblkhd == wide.hblkhd && (size_t)narrow.hblks == wide.hblks,
          "mallinfo's large blocks %d, %d bytes, to be mallinfo2's %zu, %zu", narrow.hblks, narrow.hblkhd, wide.hblks,
          wide.hblkhd);
}

/* The number behind the last `before` of a text. */
static size_t number_behind(const char *text, const char *before)
{
    const char *at = NULL;
    for (const char *next = text; (next = strstr(next, before)); next++)
        at = next;
    REQUIRE(at, "\"%s\" in:\n%.300s", before, text);
    return strtoul(at + strlen(before), NULL, 10);
}

static void document(void)
{
    char *text = NULL;
    size_t length = 0;
    struct mallinfo2 before = mallinfo2();
    FILE *stream = open_memstream(&text, &length);
    REQUIRE(stream, "a stream");
    CHECK(malloc_info(1, stream) == EINVAL, "malloc_info with options to return EINVAL");
    CHECK(malloc_info(0, stream) == 0, "malloc_info to return 0");
    fclose(stream);
    CHECK(strncmp(text, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", 43) == 0, "the form of glibc, got:\n%.200s",
          text);
    CHECK(strcmp(text + length - 10, "</malloc>\n") == 0, "it to end with </malloc>, not %s", text + length - 10);
    long depth = 0;
    for (const char *at = text; (at = strchr(at, '<')); at++)
        depth += at[1] == '/' ? -1 : strchr(at, '>')[-1] == '/' ? 0 : 1;
    CHECK(depth == 0, "every element to be closed, %ld are not", depth);
    struct mallinfo2 info = mallinfo2();
    /* As in glibc, without large blocks. What the stream needs may be in it or not. */
    size_t current = number_behind(text, "<system type=\"current\" size=\"");
    CHECK(current + MIB > before.arena && current < info.arena + MIB, "a current size between %zu and %zu, got %zu",
          before.arena, info.arena, current);
    if (kmem_expected()) {
        CHECK(number_behind(text, "<total type=\"mmap\" count=\"") == info.hblks, "as many large blocks as in mallinfo2");
        CHECK(strstr(text, "  <size from=\""), "free blocks of some size in:\n%.300s", text);
    }
    free(text);
    FILE *full = fopen("/dev/full", "w");
    REQUIRE(full, "/dev/full");
    CHECK(malloc_info(0, full) == 0, "malloc_info to a full device to return 0");
    CHECK(fclose(full) != 0, "the stream to know that it could not be written");
}

/* malloc_stats writes to standard error, which is a file meanwhile. */
static void statistics(void)
{
    char text[2048];
    int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), kept = dup(2);
    REQUIRE(file >= 0 && kept >= 0, "a file in /tmp");
    dup2(file, 2);
    malloc_stats();
    dup2(kept, 2);
    ssize_t got = pread(file, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    close(file);
    close(kept);
    struct mallinfo2 info = mallinfo2();
    about(number_behind(text, "\nin use bytes     ="), in_use(info), "an 'in use' of malloc_stats");
    about(number_behind(text, "\nsystem bytes     ="), info.arena + info.hblkhd, "a 'system' of malloc_stats");
}

static void options(void)
{
    struct {
        int parameter, value, answer;
    } asked[] = {
        {M_ARENA_MAX, 1, 1}, {M_ARENA_MAX, -1, 0}, {M_ARENA_TEST, 2, 1}, {M_TRIM_THRESHOLD, 128 * 1024, 1},
        {M_TRIM_THRESHOLD, -1, 0}, {M_MMAP_THRESHOLD, 1 << 20, 1}, {M_MMAP_THRESHOLD, 1 << 30, 0}, {M_MMAP_MAX, 65536, 1},
        {M_CHECK_ACTION, 3, 1}, {M_CHECK_ACTION, 0, 0}, {M_PERTURB, 0, 1}, {M_PERTURB, 165, 0}, {M_TOP_PAD, 0, 1},
        {M_TOP_PAD, 1 << 20, 0}, {M_MXFAST, 64, 0}, {12345, 1, 0}, {0, 0, 0}, {-9, 1, 0},
    };
    if (!kmem_expected())
        return;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        int answer = mallopt(asked[i].parameter, asked[i].value);
        CHECK(answer == asked[i].answer, "mallopt(%d, %d) to return %d, got %d", asked[i].parameter, asked[i].value,
              asked[i].answer, answer);
    }
}

int main(void)
{
    begin("figures");
    agree();
    free(malloc(opaque(SMALL_SIZE)));
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < SMALL; i++)
        small_blocks[i] = malloc(SMALL_SIZE);
    struct mallinfo2 small = mallinfo2();
    about(small.uordblks - before.uordblks, SMALL * SMALL_SIZE, "small blocks in uordblks");
    for (int i = 0; i < LARGE; i++)
        large_blocks[i] = malloc(LARGE_SIZE);
    struct mallinfo2 full = mallinfo2();
    CHECK(full.hblks - small.hblks == LARGE, "%d more large blocks, got %zu", LARGE, full.hblks - small.hblks);
    about(full.hblkhd - small.hblkhd, LARGE * LARGE_SIZE, "large blocks in hblkhd");
    about(in_use(full) - in_use(before), SMALL * SMALL_SIZE + LARGE * LARGE_SIZE, "all that is in use");
    agree();
    document();
    statistics();

    for (int i = 0; i < LARGE; i += 2)
        free(large_blocks[i]);
    CHECK(full.hblks - mallinfo2().hblks == LARGE / 2, "half as many large blocks after half of them were freed");
    large_blocks[1] = realloc(large_blocks[1], 8 * LARGE_SIZE);
    about(mallinfo2().hblkhd - before.hblkhd, (LARGE / 2 + 7) * LARGE_SIZE, "hblkhd after one of them grew");
    for (int i = 1; i < LARGE; i += 2)
        free(large_blocks[i]);
    for (int i = 0; i < SMALL; i++)
        free(small_blocks[i]);
    about(in_use(mallinfo2()) - before.uordblks, before.hblkhd, "nothing more in use than at first");
    agree();
    malloc_trim(0);
    if (kmem_expected()) {
        struct mallinfo2 trimmed = mallinfo2();
        CHECK(trimmed.keepcost == 0, "no keepcost after malloc_trim, got %zu", trimmed.keepcost);
        about(trimmed.arena + trimmed.hblkhd, in_use(trimmed), "what is held after malloc_trim");
    }
    document();
    statistics();
    options();
    return finish();
}
