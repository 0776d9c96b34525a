/* One pair of malloc and free of 64 bytes, in nanoseconds: the minimum of several rounds, because any disturbance makes
 * a round longer. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAIRS = 4000000, ROUNDS = 15, SIZE = 64 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(void) {
    void *volatile object;
    double least = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double begun = now();
        for (int pair = 0; pair < PAIRS; pair++) {
            object = malloc(SIZE);
            free(object);
        }
        double each = (now() - begun) / PAIRS;
        if (each < least) least = each;
    }
    printf("%.3f\n", least);
    return 0;
}
