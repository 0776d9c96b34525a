/* Objects of random sizes that are replaced at random, and objects that live for random times. */
#include "bench.h"

#include <stdlib.h>

enum { SLOTS = 4096 };
static void *slots[SLOTS];

static void replace(void *state) {
    struct random random = random_from(1);
    for (long i = *(long *)state; i > 0; i--) {
        void **slot = &slots[random_below(&random, SLOTS)];
        free(*slot);
        *slot = take(random_size(&random, 4, 11));
    }
}

void random_sizes(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = 50000;
    measure("", amount(100, 25), count, replace, &count);
    for (int i = 0; i < SLOTS; i++) free(slots[i]);
}

/* A timing wheel: each turn frees the objects that expire and allocates one object that lives 1 to 65,535 turns; half
 * of all live for at most 256 turns. */
enum { WHEEL = 65536 };
struct mortal { struct mortal *next; };
static struct mortal *wheel[WHEEL];
static long turn;

static void live_and_die(void *state) {
    struct random random = random_from(2);
    for (long i = *(long *)state; i > 0; i--, turn++) {
        struct mortal *ending = wheel[turn % WHEEL];
        wheel[turn % WHEEL] = NULL;
        while (ending) {
            struct mortal *next = ending->next;
            free(ending);
            ending = next;
        }
        long life = random_size(&random, 1, 16) - 1;
        struct mortal *born = take(random_size(&random, 5, 9));
        struct mortal **end = &wheel[(turn + (life ? life : 1)) % WHEEL];
        born->next = *end;
        *end = born;
    }
}

void random_lifetimes(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = 2 * WHEEL;
    measure("", amount(40, 8), count, live_and_die, &count);
    for (int i = 0; i < WHEEL; i++)
        while (wheel[i]) {
            struct mortal *next = wheel[i]->next;
            free(wheel[i]);
            wheel[i] = next;
        }
}
