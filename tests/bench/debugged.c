/* The program that .ci/debugger steps through: `next` steps over malloc and free, and a watched variable changes
 * between them. */
#include <stdio.h>
#include <stdlib.h>

int watched;

int main(void)
{
    int sum = 0;
    free(malloc(10));
    free(malloc(10));
    free(calloc(3, 10));
    watched = 1;
    for (int i = 0; i < 3; i++) {
        char *p = malloc(40);
        p[0] = (char)i;
        sum += p[0];
        free(p);
    }
    watched = 2;
    printf("sum %d\n", sum);
    return 0;
}
