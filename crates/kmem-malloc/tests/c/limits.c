/* What objects of 32 to 256 KiB take of what is limited, and what a program takes whose memory is locked. Each case is a
 * process of its own, for a limit and a lock stay.
 *
 *     limits data      RLIMIT_DATA of 200,000 KiB serves in objects of any such size four fifths of what it allows, and of
 *                      35,000 bytes 165 MiB; when it is reached, what was handed out is unharmed, and frees bring it back
 *     limits locked    after mlockall of all that is and will be, a small program has 4 MiB at most (the library's code not
 *                      counted, which a debug build has much of), and with 2,000 objects of 36,000 bytes 80 MiB
 *     limits zeros     calloc of such sizes reads as zero, whatever was there before, and takes memory for what is written
 */
#include "check.h"

#include <sys/mman.h>
#include <sys/resource.h>

struct link {
    struct link *next;
};

static size_t fill(struct link **list, size_t size, size_t ceiling)
{
    size_t total = 0;
    for (;;) {
        struct link *block = (struct link *)malloc(size);
        if (!block)
            return total;
        block->next = *list;
        pattern_fill(block + 1, 256, size);
        *list = block;
        total += size;
        REQUIRE(total <= ceiling, "malloc(%zu) to give NULL under the limit", size);
    }
}

static void data(void)
{
    struct rlimit limit = {200000 * KIB, 200000 * KIB};
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0, "setrlimit to work");
    static const size_t sizes[] = {35000, 33000, 36864, 36865, 41000, 53300, 66000, 100000, 106500, 131073, 150000, 213000, 262144};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct link *list = NULL;
        size_t got = fill(&list, sizes[i], limit.rlim_cur);
        size_t least = sizes[i] == 35000 ? 165 * MIB : limit.rlim_cur / 5 * 4;
        CHECK(!kmem_expected() || got >= least, "%zu bytes in objects of %zu, got %zu", least, sizes[i], got);
        while (list) {
            struct link *block = list;
            CHECK(pattern_holds(block + 1, 256, 256, sizes[i]), "a block of %zu bytes unharmed", sizes[i]);
            list = block->next;
            free(block);
        }
    }
}

/* KiB of this process that are in memory: those of mappings without a file, or those of all but the library's code. */
static size_t resident(int without_code)
{
    static char text[256 * 1024];
    size_t length = 0, sum = 0;
    int file = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    for (ssize_t got; (got = read(file, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(file);
    text[length] = 0;
    int counts = 0;
    for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *end = strchr(line, '\n');
        size_t value;
        if (sscanf(line, "Rss: %zu", &value) == 1)
            sum += counts ? value : 0;
        else if (end && ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f'))) {
            char *name = memmem(line, (size_t)(end - line), "libkmem_malloc", 14);
            counts = !(without_code && name);
        }
    }
    return sum;
}

static void locked(void)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        dprintf(1, "limits: memory cannot be locked here\n");
        return;
    }
    free(malloc(100));
    /* This program's own buffer for what the kernel says is part of it. */
    size_t small = resident(1) - 256;
    CHECK(!kmem_expected() || small <= 4096, "4 MiB of a small program in memory, got %zu KiB", small);
    for (int i = 0; i < 2000; i++)
        REQUIRE(malloc(36000), "memory");
    size_t more = resident(1) - 256;
    CHECK(!kmem_expected() || more <= 80 * 1024, "80 MiB with 2,000 objects of 36,000 bytes, got %zu KiB", more);
}

static void zeros(void)
{
    static const size_t sizes[] = {32769, 40000, 65536, 100000, 200000, 262144, 262145};
    enum { COUNT = 40 };
    static unsigned char *objects[COUNT];
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t size = sizes[i];
            for (int n = 0; n < COUNT; n++) {
                REQUIRE(objects[n] = (unsigned char *)calloc(1, size), "calloc(1, %zu) to work", size);
                size_t at = 0;
                while (at < size && objects[n][at] == 0)
                    at++;
                CHECK(at == size, "calloc(1, %zu) to read as zero, byte %zu does not", size, at);
                memset(objects[n], 0xA5, size);
            }
            for (int n = 0; n < COUNT; n++)
                free(objects[n]);
            if (round == 3)
                malloc_trim(0);
        }
    }
    malloc_trim(0);
    size_t before = resident(0);
    for (int n = 0; n < 400; n++) {
        unsigned char *object = (unsigned char *)calloc(1, 200000);
        REQUIRE(object, "calloc to work");
        object[0] = 1;
    }
    size_t more = resident(0) - before;
    CHECK(!kmem_expected() || more < 8 * 1024, "400 untouched objects of 200,000 bytes to be small, they take %zu KiB", more);
}

int main(int argc, char **argv)
{
    begin("limits");
    REQUIRE(argc == 2, "a case");
    if (strcmp(argv[1], "data") == 0)
        data();
    else if (strcmp(argv[1], "locked") == 0)
        locked();
    else
        zeros();
    return finish();
}
