/* A process without kmem, with a note that claims an engine, which a reader must not trust. The first argument says what
 * is wrong with it. It prints "ready" and waits until it is killed.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAGIC, VERSION, WORDS };

/* What a reader takes for an outline, and for the place of an engine: both are all of one array. */
uint64_t outline[512];
uint64_t place[1 << 16];

__asm__(".pushsection .note.kmem,\"a\",@note\n"
        ".balign 4\n"
        ".long 5, 40, 1\n"
        ".asciz \"kmem\"\n"
        ".balign 4\n"
        ".quad outline - .\n"
        ".quad place - .\n"
        ".quad 0, 64, 8\n"
        ".popsection");

int main(int count, char **arguments)
{
    const char *way = count > 1 ? arguments[1] : "";
    unsigned words = count > 2 ? (unsigned)atoi(arguments[2]) : 0;
    uint64_t fill = count > 3 ? strtoull(arguments[3], NULL, 0) : 0;
    memcpy(outline, "kmemline", 8);
    outline[VERSION] = 2;
    outline[WORDS] = words;
    for (unsigned i = WORDS + 1; i < words && i < 512; i++)
        outline[i] = fill;
    /* Every address that a reader finds is that of the place, so that lists lead to themselves. */
    for (unsigned i = 1; i < 1 << 16; i++)
        place[i] = strcmp(way, "endless") == 0 ? (uint64_t)(uintptr_t)place : UINT64_MAX;
    *(uint32_t *)place = 1;
    if (strcmp(way, "small") == 0)
        for (unsigned i = 1; i < 1 << 16; i++)
            place[i] = 1;
    if (strcmp(way, "magic") == 0)
        outline[MAGIC] = 1;
    if (strcmp(way, "version") == 0)
        outline[VERSION] = 77;
    if (strcmp(way, "words") == 0)
        outline[WORDS] = words + 1;
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
