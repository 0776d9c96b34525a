/* Two million objects of 128 bytes, of which one in a thousand survives, evenly spread: how much memory is released
 * while the survivors live? */
#include "bench.h"

#include <stdlib.h>

enum { SIZE = 128, ONE_IN = 1000 };

void sparse_survivors(int argc, char **argv) {
    (void)argc, (void)argv;
    long count = amount(2000000, 500000);
    void **objects = own_memory(count * sizeof(void *));
    long before = resident_kib();
    for (long i = 0; i < count; i++) objects[i] = take(SIZE);
    double full = resident_kib() - before;
    for (long i = 0; i < count; i++)
        if (i % ONE_IN) free(objects[i]);
    figure("at_once_percent", 100 * (resident_kib() - before) / full);
    pause_ms(amount(3000, 1000));
    double left = resident_kib() - before;
    figure("full_kib", full);
    figure("left_kib", left);
    figure("left_percent", 100 * left / full);
    for (long i = 0; i < count; i += ONE_IN) free(objects[i]);
}
