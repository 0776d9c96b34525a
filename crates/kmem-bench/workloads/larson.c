/* A server of the kind that Larson and Krishnan described: each thread replaces random objects of its set for a while,
 * then a new thread takes the set over and the old one ends, so that most objects are freed by another thread. */
#define _GNU_SOURCE
#include "suite.h"

#include <stdlib.h>

enum { SET = 1000, LIVES = 10 };

struct server { void **sets[64]; long rounds; };

static void serve(int number, void *state) {
    struct server *server = state;
    struct random random = random_from(100 + number);
    void **set = server->sets[number];
    for (long i = 0; i < server->rounds; i++) {
        void **object = &set[random_below(&random, SET)];
        free(*object);
        *object = take(random_size(&random, 4, 9));
    }
}

static void generations(void *state) {
    int threads = cpus() < 64 ? cpus() : 64;
    for (int life = 0; life < LIVES; life++) on_threads(threads, serve, state);
}

void larson(int argc, char **argv) {
    (void)argc, (void)argv;
    struct server server = {.rounds = amount(100000, 10000)};
    int threads = cpus() < 64 ? cpus() : 64;
    for (int i = 0; i < threads; i++) {
        server.sets[i] = own_memory(SET * sizeof(void *));
        for (int k = 0; k < SET; k++) server.sets[i][k] = take(64);
    }
    measure("", 1, server.rounds * LIVES * threads, generations, &server);
    for (int i = 0; i < threads; i++)
        for (int k = 0; k < SET; k++) free(server.sets[i][k]);
}
