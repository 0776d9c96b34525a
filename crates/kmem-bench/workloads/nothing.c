/* A program that does nothing; with an argument it allocates once, and frees. */
#include <stdlib.h>

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        void *volatile object = malloc(64);
        free(object);
    }
    return 0;
}
