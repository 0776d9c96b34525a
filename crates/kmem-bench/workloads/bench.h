/* What the workloads share.
 *
 * A workload is one function: it does its work, prints its figures with measure() and figure(), and frees all that it
 * allocated. It calls malloc and free through dynamic symbols, compiled without knowledge of what these do, so the
 * preloaded library provides them and no call is optimised away. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stddef.h>

/* The amount of work: the second number in a quick run. */
long amount(long full, long quick);

/* CPUs that this process may run on: how many threads a parallel workload has. */
int cpus(void);

/* Writes one line "NAME VALUE" on standard output. */
void figure(const char *name, double value);

/* Runs a round several times and prints the minimum per operation, as PREFIXns (wall), PREFIXcpu_ns (processor time of
 * all threads) and PREFIXcycles (of the time-stamp counter): any disturbance makes a round longer. Even on a busy
 * machine some rounds of a millisecond or two are undisturbed. */
void measure(const char *prefix, int rounds, long operations, void (*round)(void *state), void *state);

/* Memory of this process that is resident, in KiB. */
long resident_kib(void);

/* The peak of that. */
long peak_kib(void);

void pause_ms(long milliseconds);

/* Memory for the workload's own data, not from the allocator under test. Never freed. */
void *own_memory(size_t bytes);

/* Runs the function on `count` threads at once, each with its number, until all have ended. */
void on_threads(int count, void (*body)(int number, void *state), void *state);

/* Ends the program with a message: memory ran out, or a thread could not be created. */
_Noreturn void fail(const char *what);

/* malloc that ends the program if there is no memory, and writes to the first byte. */
void *take(size_t size);

/* Random numbers, the same in every run. */
struct random { uint64_t state; };
static inline uint64_t random_next(struct random *random) {
    uint64_t x = random->state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return random->state = x;
}
static inline struct random random_from(uint64_t seed) {
    return (struct random){0x9e3779b97f4a7c15u * (seed + 1)};
}
static inline uint64_t random_below(struct random *random, uint64_t bound) {
    return ((random_next(random) >> 32) * bound) >> 32;
}
/* Sizes as programs use them: every power of two up to the bound is equally likely. */
static inline size_t random_size(struct random *random, int smallest_log, int largest_log) {
    size_t top = (size_t)1 << (smallest_log + random_below(random, largest_log - smallest_log + 1));
    return top / 2 + random_below(random, top / 2) + 1;
}

/* Makes the compiler assume that the pointer is used. */
static inline void used(void *pointer) { __asm__ volatile("" : : "r"(pointer) : "memory"); }

/* All workloads, for main.c. */
#define WORKLOADS(W) \
    W(pair) W(burst_lifo) W(burst_fifo) W(random_sizes) W(random_lifetimes) W(cold_heap) W(handover) W(handover_many) \
    W(threads_end) W(idle_threads) W(sparse_survivors) W(realloc_growth) W(large_objects) W(larger_objects) \
    W(start_program) W(larson) W(sh6) W(sh8) W(xmalloc) W(mstress) W(rptest) W(blocks) W(blocks_threads) W(alloc_test) \
    W(alloc_test_threads) W(cache_scratch) W(cache_thrash) W(continued_fraction) W(minimise) W(leave_cpu)
#define DECLARE(name) void name(int argc, char **argv);
WORKLOADS(DECLARE)

#endif
