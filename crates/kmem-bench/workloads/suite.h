/* The suite: small programs like those of public benchmark suites for allocators, written anew. */
#ifndef SUITE_H
#define SUITE_H

#include "bench.h"

/* Where threads leave objects for each other: each place holds one object, and any thread can exchange it. */
enum { PLACES = 1024 };
extern void *places[PLACES];

/* Puts an object (or NULL) into a place and takes what was there. */
static inline void *swap_place(uint64_t place, void *object) {
    return __atomic_exchange_n(&places[place % PLACES], object, __ATOMIC_ACQ_REL);
}

/* Frees what is left in the places. */
void clear_places(void);

#endif
