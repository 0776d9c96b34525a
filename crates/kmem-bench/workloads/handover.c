/* Threads that only allocate, and threads that only free: objects of 64 bytes, handed over 512 at a time through a
 * queue of 16 such batches. A thread that finds the queue full or empty yields its CPU. */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 512, SIZE = 64, ROOM = 16 };

struct batch { void *objects[BATCH]; };
static struct queue {
    pthread_mutex_t lock;
    struct batch batches[ROOM];
    long put, taken, total;
    int producers;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void produce(long batches) {
    for (struct batch batch; batches > 0; batches--) {
        for (int i = 0; i < BATCH; i++) batch.objects[i] = take(SIZE);
        for (int done = 0; !done;) {
            pthread_mutex_lock(&queue.lock);
            if (queue.put - queue.taken < ROOM) {
                queue.batches[queue.put++ % ROOM] = batch;
                done = 1;
            }
            pthread_mutex_unlock(&queue.lock);
            if (!done) sched_yield();
        }
    }
}

static void consume(void) {
    for (struct batch batch;;) {
        int got = 0, over = 0;
        pthread_mutex_lock(&queue.lock);
        if (queue.taken < queue.put) {
            batch = queue.batches[queue.taken++ % ROOM];
            got = 1;
        } else {
            over = queue.taken == queue.total;
        }
        pthread_mutex_unlock(&queue.lock);
        if (over) return;
        if (!got) {
            sched_yield();
            continue;
        }
        for (int i = 0; i < BATCH; i++) free(batch.objects[i]);
    }
}

static void body(int number, void *state) {
    (void)state;
    if (number < queue.producers) produce(queue.total / queue.producers);
    else consume();
}

static void hand_over(void *state) {
    (void)state;
    queue.put = queue.taken = 0;
    on_threads(2 * queue.producers, body, NULL);
}

static void run(int producers, long batches) {
    queue.producers = producers;
    queue.total = batches / producers * producers;
    long before = resident_kib();
    measure("", 1, queue.total * BATCH, hand_over, NULL);
    figure("growth_kib", peak_kib() - before);
}

void handover(int argc, char **argv) {
    (void)argc, (void)argv;
    run(1, amount(8000, 1000));
}

void handover_many(int argc, char **argv) {
    (void)argc, (void)argv;
    run(cpus(), amount(8000, 1000));
}
