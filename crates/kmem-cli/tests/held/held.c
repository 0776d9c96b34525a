/* A program whose live objects are known. It prints "ready", and each line of its input is a step:
 * 1 allocate, on three threads, a third of each kind on each, and free every other small object on another thread;
 * 2 free all of it. It answers each step with "done". Its threads are there from the start.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 3, SMALL = 3000, MIDDLE = 300, LARGE = 4, HUGE_ONES = 1 };
static const size_t SIZES[] = { 40, 3000, 1 << 20, 5 << 20 };
static const int COUNTS[] = { SMALL, MIDDLE, LARGE, HUGE_ONES };
static void *held[THREADS][4][SMALL];
static sem_t begin[THREADS], ended;
static volatile int step;

static void *work(void *argument)
{
    int self = (int)(long)argument;
    for (;;) {
        sem_wait(&begin[self]);
        for (int kind = 0; kind < 4; kind++)
            for (int i = 0; i < COUNTS[kind]; i++) {
                if (step == 1) {
                    held[self][kind][i] = malloc(SIZES[kind]);
                    memset(held[self][kind][i], 1, SIZES[kind]);
                } else if (step == 2) {
                    /* of another thread */
                    if (kind == 0 && i % 2) {
                        free(held[(self + 1) % THREADS][0][i]);
                        held[(self + 1) % THREADS][0][i] = NULL;
                    }
                } else {
                    free(held[self][kind][i]);
                    held[self][kind][i] = NULL;
                }
            }
        sem_post(&ended);
    }
    return NULL;
}

static void all(int what)
{
    step = what;
    for (int i = 0; i < THREADS; i++)
        sem_post(&begin[i]);
    for (int i = 0; i < THREADS; i++)
        sem_wait(&ended);
}

int main(void)
{
    char line[16];
    setvbuf(stdout, NULL, _IONBF, 0);
    sem_init(&ended, 0, 0);
    for (long i = 0; i < THREADS; i++) {
        pthread_t thread;
        sem_init(&begin[i], 0, 0);
        if (pthread_create(&thread, NULL, work, (void *)i) != 0)
            return 2;
    }
    free(malloc(1));
    write(1, "ready\n", 6);
    while (read(0, line, sizeof line) > 0) {
        if (line[0] == '1')
            all(1), all(2);
        else
            all(3);
        write(1, "done\n", 5);
    }
    return 0;
}
