/* Threads that start, allocate and end; and five hundred that once used memory and are idle. */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <stdlib.h>

/* ---- threads that end: each leaves half of its objects to be freed by the next group ---- */

enum { GROUP = 4, KEPT = 64 };
static void *left[GROUP][KEPT];

static void short_life(int number, void *state) {
    (void)state;
    struct random random = random_from(number);
    for (int i = 0; i < KEPT; i++) {
        free(left[number][i]);
        void *own = take(random_size(&random, 4, 10));
        left[number][i] = take(random_size(&random, 4, 10));
        free(own);
    }
}

static void groups(void *state) {
    for (long i = *(long *)state; i > 0; i--) on_threads(GROUP, short_life, NULL);
}

void threads_end(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(500, 100);
    measure("", 3, count * GROUP, groups, &count);
    for (int i = 0; i < GROUP; i++)
        for (int k = 0; k < KEPT; k++) free(left[i][k]);
}

/* ---- idle threads ---- */

enum { BURST = 2 << 20, SIZE = 128 };
static pthread_barrier_t ready, go, freed, done;

static void burst_and_idle(int number, void *state) {
    (void)state, (void)number;
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&go);
    void *chain = NULL;
    for (int i = 0; i < BURST / SIZE; i++) {
        void **object = take(SIZE);
        *object = chain;
        chain = object;
    }
    while (chain) {
        void *next = *(void **)chain;
        free(chain);
        chain = next;
    }
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&done);
}

static void *watcher(void *count) {
    (void)count;
    pthread_barrier_wait(&ready);
    long before = resident_kib();
    pthread_barrier_wait(&go);
    pthread_barrier_wait(&freed);
    figure("at_once_kib", resident_kib() - before);
    pause_ms(amount(3000, 1000));
    long extra = resident_kib() - before;
    figure("extra_kib", extra > 0 ? extra : 0);
    pthread_barrier_wait(&done);
    return NULL;
}

void idle_threads(int argc, char **argv) {
    (void)argc, (void)argv;
    int count = amount(500, 100);
    pthread_barrier_t *barriers[] = {&ready, &go, &freed, &done};
    for (int i = 0; i < 4; i++) pthread_barrier_init(barriers[i], NULL, count + 1);
    pthread_t watching;
    if (pthread_create(&watching, NULL, watcher, NULL)) fail("cannot start a thread");
    on_threads(count, burst_and_idle, NULL);
    pthread_join(watching, NULL);
}
