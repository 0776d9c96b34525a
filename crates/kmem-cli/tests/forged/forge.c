/* A process that does not run on kmem but publishes a page as if it did, which a reader must not trust. It prints
 * "ready" and waits until it is killed; as "torn" it keeps writing. Its main thread has the name of the upkeep thread,
 * and keeps the file open unless a second argument is given.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC, VERSION, SEQUENCE, PID, TURNS = 12, CPUS, CPU_COUNT, CPU_WORDS, HEADER = 64 };
enum { ROWS = 1024, ROW = 8, PAGE = ((HEADER + ROWS * ROW) * 8 + 4095) / 4096 * 4096 };

static volatile uint64_t *words;

static void say(const char *text)
{
    puts(text);
    fflush(stdout);
}

/* Every figure of the body is `number`, so a reader sees whether all are of the same moment. */
static void body(uint64_t number)
{
    words[TURNS] = number;
    for (int row = 0; row < ROWS; row++) {
        words[HEADER + row * ROW] = 1;
        for (int figure = 1; figure < 4; figure++)
            words[HEADER + row * ROW + figure] = number;
    }
}

int main(int count, char **arguments)
{
    const char *way = count > 1 ? arguments[1] : "";
    size_t length = strcmp(way, "huge") == 0 ? (size_t)1 << 40 : PAGE;
    int file = memfd_create("kmem-page", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)length) != 0)
        return 2;
    words = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (words == MAP_FAILED)
        return 3;
    prctl(PR_SET_NAME, "kmem");
    memcpy((void *)words, "kmempage", 8);
    words[VERSION] = 1;
    words[SEQUENCE] = 2;
    words[CPUS] = HEADER;
    words[CPU_COUNT] = ROWS;
    words[CPU_WORDS] = ROW;
    body(1);

    if (strcmp(way, "version") == 0)
        words[VERSION] = 7;
    if (strcmp(way, "endless") == 0)
        words[CPU_COUNT] = UINT64_MAX, words[CPU_WORDS] = 0;
    if (strcmp(way, "beyond") == 0)
        words[CPU_COUNT] = UINT64_MAX / 8 + 1;
    if (strcmp(way, "huge") == 0)
        words[CPUS] = (length - (size_t)1024 * 1024) / 8;
    if (strcmp(way, "truncated") == 0 && ftruncate(file, 0) != 0)
        return 4;
    if (strcmp(way, "written") == 0)
        words[SEQUENCE] = 3;
    if (count > 2)
        close(file);
    if (strcmp(way, "pipe") == 0) {
        /* A careless reader that took this for the page would never get any data. */
        close(file);
        char path[256];
        snprintf(path, sizeof path, "%s/memfd:kmem-page (deleted)", arguments[2]);
        if (mkfifo(path, 0600) != 0 || open(path, O_RDWR) < 0)
            return 5;
    }
    say("ready");
    if (strcmp(way, "torn") == 0) {
        for (uint64_t number = 2;; number++) {
            words[SEQUENCE] = 2 * number - 1;
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            body(number);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            words[SEQUENCE] = 2 * number;
            /* Some times as long as a copy takes, so that one in a few meets the next change. */
            for (volatile int rest = 0; rest < 100000; rest++)
                ;
        }
    }
    for (;;)
        pause();
}
