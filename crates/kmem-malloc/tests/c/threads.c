/* Threads: blocks freed by another thread than the one that allocated them, in both directions and by the million;
 * threads that start, allocate, leave their blocks to others and end, by the thousand, without the memory growing; and
 * allocation in the destructors of thread-specific data, which run when much of the thread is gone already.
 */
#include "check.h"

#include <pthread.h>

/* ---- Producers and consumers ---- */

enum { RING = 1024, MESSAGES = 200000, PAIRS = 2 };

struct ring {
    void *volatile slot[RING];
    size_t size[RING];
};

static size_t message_size(uint64_t i)
{
    uint64_t state = i, random = next_random(&state);
    return random % 1000 == 0 ? random % 70000 + 1 : random % 16 == 0 ? random % 4000 + 1 : random % 256 + 1;
}

static void *produce(void *argument)
{
    struct ring *ring = (struct ring *)argument;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        size_t size = message_size(i);
        void *p = malloc(size);
        REQUIRE(p, "malloc(%zu) to give memory", size);
        pattern_fill(p, size < 64 ? size : 64, i);
        while (__atomic_load_n(&ring->slot[i % RING], __ATOMIC_ACQUIRE))
            sched_yield();
        ring->size[i % RING] = size;
        __atomic_store_n(&ring->slot[i % RING], p, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct ring *ring = (struct ring *)argument;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        void *p;
        while (!(p = __atomic_load_n(&ring->slot[i % RING], __ATOMIC_ACQUIRE)))
            sched_yield();
        size_t size = ring->size[i % RING];
        __atomic_store_n(&ring->slot[i % RING], NULL, __ATOMIC_RELEASE);
        size_t written = size < 64 ? size : 64;
        CHECK(size == message_size(i) && pattern_holds(p, written, written, i),
              "message %lu to arrive as its producer wrote it", (unsigned long)i);
        if (i % 5 == 0) {
            REQUIRE(p = realloc(p, size * 2), "realloc by another thread to give memory");
            CHECK(pattern_holds(p, written, written, i), "message %lu kept by realloc", (unsigned long)i);
        }
        free(p);
    }
    return NULL;
}

static void producers_and_consumers(void)
{
    static struct ring rings[PAIRS];
    pthread_t thread[2 * PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        REQUIRE(!pthread_create(&thread[2 * i], NULL, produce, &rings[i]), "a thread");
        REQUIRE(!pthread_create(&thread[2 * i + 1], NULL, consume, &rings[i]), "a thread");
    }
    for (int i = 0; i < 2 * PAIRS; i++)
        pthread_join(thread[i], NULL);
}

/* ---- Threads that end ---- */

enum { LEFT = 200, AT_ONCE = 8 };

struct visit {
    void *left[LEFT];
    uint64_t seed;
};

static size_t visit_size(const struct visit *visit, int i)
{
    return (visit->seed * 31 + (uint64_t)i * 17) % 2000 + 1;
}

static void *visitor(void *argument)
{
    struct visit *visit = (struct visit *)argument;
    for (int i = 0; i < LEFT; i++) {
        void *own = malloc(visit_size(visit, i));
        REQUIRE(own, "malloc in a fresh thread to give memory");
        pattern_fill(own, visit_size(visit, i), visit->seed);
        REQUIRE(visit->left[i] = malloc(visit_size(visit, i)), "malloc in a fresh thread to give memory");
        pattern_fill(visit->left[i], visit_size(visit, i), visit->seed);
        CHECK(pattern_holds(own, visit_size(visit, i), visit_size(visit, i), visit->seed), "a block of a fresh thread kept");
        free(own);
    }
    return NULL;
}

static void generations_of_threads(int generations)
{
    static struct visit visits[AT_ONCE];
    pthread_t thread[AT_ONCE];
    for (int generation = 0; generation < generations; generation++) {
        for (int i = 0; i < AT_ONCE; i++) {
            visits[i].seed = (uint64_t)generation * AT_ONCE + (uint64_t)i;
            REQUIRE(!pthread_create(&thread[i], NULL, visitor, &visits[i]), "a thread");
        }
        for (int i = 0; i < AT_ONCE; i++)
            pthread_join(thread[i], NULL);
        for (int i = 0; i < AT_ONCE; i++) {
            for (int k = 0; k < LEFT; k++) {
                size_t size = visit_size(&visits[i], k);
                CHECK(pattern_holds(visits[i].left[k], size, size, visits[i].seed), "a block to outlive its thread");
                free(visits[i].left[k]);
            }
        }
    }
}

static void threads_that_end(void)
{
    generations_of_threads(50);
    size_t early = process_bytes(RESIDENT);
    generations_of_threads(350);
    size_t late = process_bytes(RESIDENT);
    CHECK(late < early + 24 * MIB,
          "2,800 more threads of 400 blocks each to leave resident memory where it was (%zu), it is %zu", early, late);
}

/* ---- Thread-specific data ---- */

static pthread_key_t chain_key, first_key, last_key;
static long destructors_run;

/* Frees what the thread left, allocates anew, and comes again for as long as POSIX promises to call. */
static void chain_destructor(void *value)
{
    size_t *block = (size_t *)value;
    size_t turns = block[0];
    CHECK(pattern_holds(block + 1, 400, 400, turns), "thread-specific data intact in its destructor");
    free(block);
    __atomic_fetch_add(&destructors_run, 1, __ATOMIC_RELAXED);
    if (turns > 0) {
        block = (size_t *)malloc(sizeof(size_t) + 400);
        REQUIRE(block, "malloc in a destructor of thread-specific data to give memory");
        block[0] = turns - 1;
        pattern_fill(block + 1, 400, turns - 1);
        pthread_setspecific(chain_key, block);
    }
}

static void churn_destructor(void *value)
{
    free(value);
    void *block[100];
    for (int i = 0; i < 100; i++) {
        REQUIRE(block[i] = i % 2 ? malloc((size_t)i * 300 + 1) : calloc((size_t)i + 1, 50), "memory in a destructor");
        memset(block[i], i, 50);
    }
    for (int i = 0; i < 100; i++)
        free(block[i]);
    __atomic_fetch_add(&destructors_run, 1, __ATOMIC_RELAXED);
}

static void *leaves_specific_data(void *argument)
{
    (void)argument;
    size_t *block = (size_t *)malloc(sizeof(size_t) + 400);
    REQUIRE(block, "memory");
    block[0] = 3;
    pattern_fill(block + 1, 400, 3);
    pthread_setspecific(first_key, malloc(100));
    pthread_setspecific(chain_key, block);
    pthread_setspecific(last_key, malloc(100000));
    return NULL;
}

static void specific_data(void)
{
    enum { THREADS = 400 };
    REQUIRE(!pthread_key_create(&first_key, churn_destructor), "a key");
    REQUIRE(!pthread_key_create(&chain_key, chain_destructor), "a key");
    REQUIRE(!pthread_key_create(&last_key, churn_destructor), "a key");
    for (int i = 0; i < THREADS; i += 4) {
        pthread_t thread[4];
        for (int k = 0; k < 4; k++)
            REQUIRE(!pthread_create(&thread[k], NULL, leaves_specific_data, NULL), "a thread");
        for (int k = 0; k < 4; k++)
            pthread_join(thread[k], NULL);
    }
    CHECK(destructors_run == THREADS * 6, "each thread's 6 destructors to have run, %d in all, got %ld", THREADS * 6,
          destructors_run);
}

int main(void)
{
    begin("threads");
    producers_and_consumers();
    threads_that_end();
    specific_data();
    return finish();
}
