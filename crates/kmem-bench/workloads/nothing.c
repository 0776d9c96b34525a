/* A program that allocates once, frees, and ends. */
#include <stdlib.h>

int main(void) {
    void *volatile object = malloc(64);
    free(object);
    return 0;
}
