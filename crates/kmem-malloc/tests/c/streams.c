/* fork beside threads that are busy with streams. One flushes all streams: it holds libc's list of them and waits for one.
 * Others read long lines: they hold a stream and wait for memory. fork holds the memory and wants the list. An allocator
 * that locks itself before fork locks the list has the three wait for each other within seconds.
 */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READERS = 2, FORKS = 300, LINE = 300000 };

static atomic_int over;
static char path[64];

static void *flush(void *unused)
{
    while (!over)
        fflush(NULL);
    return unused;
}

static void *read_lines(void *unused)
{
    while (!over) {
        FILE *file = fopen(path, "r");
        REQUIRE(file, "to open %s", path);
        char *line = NULL;
        size_t room = 0;
        CHECK(getdelim(&line, &room, '\n', file) == LINE, "a line of %d characters", LINE);
        free(line);
        fclose(file);
    }
    return unused;
}

int main(void)
{
    begin("streams");
    snprintf(path, sizeof path, "/tmp/kmem-streams-%d", (int)getpid());
    FILE *file = fopen(path, "w");
    REQUIRE(file, "to make %s", path);
    for (int i = 0; i < LINE; i++)
        fputc('x', file);
    fclose(file);

    pthread_t thread[READERS + 1];
    REQUIRE(!pthread_create(&thread[0], NULL, flush, NULL), "a thread");
    for (int i = 1; i <= READERS; i++)
        REQUIRE(!pthread_create(&thread[i], NULL, read_lines, NULL), "a thread");
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child %d to leave with 0", i);
    }
    over = 1;
    for (int i = 0; i <= READERS; i++)
        pthread_join(thread[i], NULL);
    unlink(path);
    return finish();
}
