/* A given number of rounds of one pattern of malloc and free, for a tool that counts instructions: the difference of
 * two runs is the cost of the pattern. */
#include <stdlib.h>
#include <string.h>

enum { BURST = 4096, SIZE = 64 };

static void *objects[BURST];

int main(int count, char **arguments) {
    if (count != 3) return 2;
    long rounds = atol(arguments[2]);
    if (strcmp(arguments[1], "pair") == 0) {
        for (long round = 0; round < rounds; round++) {
            void *volatile object = malloc(SIZE);
            free(object);
        }
    } else if (strcmp(arguments[1], "burst") == 0) {
        for (long round = 0; round < rounds; round++) {
            for (int index = 0; index < BURST; index++) objects[index] = malloc(SIZE);
            for (int index = 0; index < BURST; index++) free(objects[index]);
        }
    } else {
        return 2;
    }
    return 0;
}
