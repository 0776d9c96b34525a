/* A program to run on the preload library, which fails if the library is linked wrongly: short-lived threads, all sizes, a
   child, an aligned block. It prints "served" at the end; the gate also checks the table of KMEM_STATS. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 200, BLOCKS = 256 };

static void *work(void *seed)
{
    unsigned char *blocks[BLOCKS] = {0};
    size_t sizes[BLOCKS] = {0};
    unsigned long state = (unsigned long)(size_t)seed + 1;
    for (int i = 0; i < ROUNDS * BLOCKS; i++) {
        state = state * 6364136223846793005ul + 1442695040888963407ul;
        size_t at = (state >> 33) % BLOCKS;
        for (size_t b = 0; b < sizes[at]; b += 61)
            if (blocks[at][b] != (unsigned char)at)
                abort();
        free(blocks[at]);
        sizes[at] = 1 + ((state >> 40) % 16 ? (state >> 44) % 1000 : (state >> 44) % 200000);
        blocks[at] = malloc(sizes[at]);
        if (!blocks[at])
            abort();
        memset(blocks[at], (int)at, sizes[at]);
    }
    for (int at = 0; at < BLOCKS; at++)
        free(blocks[at]);
    return NULL;
}

static void threads(void)
{
    pthread_t running[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&running[i], NULL, work, (void *)i))
            abort();
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(running[i], NULL);
}

int main(void)
{
    threads();
    pid_t child = fork();
    if (child == 0) {
        threads();
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status)
        abort();
    void *aligned;
    if (posix_memalign(&aligned, 4096, 10000) || (size_t)aligned % 4096)
        abort();
    free(aligned);
    puts("served");
    return 0;
}
