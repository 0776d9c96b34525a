/* malloc_trim gives everything back that is free: whole slabs, the free pages between a few survivors, and large blocks.
 * The survivors keep their content, a second call has nothing to do, and the memory serves again.
 */
#include "check.h"

enum { COUNT = 200000, SIZE = 128, EVERY = 1000 };
static unsigned char *block[COUNT];

static long resident(void)
{
    char text[64] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0, "/proc/self/statm to be readable");
    close(file);
    char *second = strchr(text, ' ');
    REQUIRE(second, "two numbers in /proc/self/statm");
    return strtol(second, NULL, 10) * 4096;
}

int main(void)
{
    begin("trim");
    for (int i = 0; i < COUNT; i++)
        block[i] = NULL; /* Its own pages are there before the first look. */
    long before = resident();
    for (int i = 0; i < COUNT; i++) {
        block[i] = (unsigned char *)malloc(SIZE);
        REQUIRE(block[i], "malloc(%d) to give memory", SIZE);
        memset(block[i], i % 251, SIZE);
    }
    char *large = (char *)malloc(24 * MIB);
    REQUIRE(large, "24 MiB");
    memset(large, 1, 24 * MIB);
    long peak = resident();
    CHECK(peak - before >= (long)(48 * MIB), "48 MiB to be resident, got %ld bytes", peak - before);
    free(large);
    for (int i = 0; i < COUNT; i++)
        if (i % EVERY)
            free(block[i]);
    if (kmem_expected()) {
        CHECK(malloc_trim(0) == 1, "malloc_trim to give something back");
        long left = resident() - before;
        CHECK(left <= (long)(3 * MIB), "200 survivors to keep at most 3 MiB resident, got %ld bytes", left);
        CHECK(malloc_trim(0) == 0, "malloc_trim to find nothing at once after another");
    }
    for (int i = 0; i < COUNT; i += EVERY)
        for (int at = 0; at < SIZE; at++)
            CHECK(block[i][at] == i % 251, "survivor %d to be as it was at byte %d", i, at);
    for (int i = 0; i < COUNT; i++)
        if (i % EVERY) {
            block[i] = (unsigned char *)malloc(SIZE);
            REQUIRE(block[i], "malloc(%d) to give memory again", SIZE);
            memset(block[i], i % 251, SIZE);
        }
    for (int i = 0; i < COUNT; i++) {
        CHECK(block[i][0] == i % 251 && block[i][SIZE - 1] == i % 251, "block %d to be as it was written", i);
        free(block[i]);
    }
    return finish();
}
