/* The end of memory: under a small RLIMIT_AS malloc comes to NULL with ENOMEM and not to a crash or an endless loop,
 * nothing that was handed out is harmed, and after the frees there is memory again, also for sizes quite unlike those that
 * filled it.
 *
 *     exhaustion           sets a limit of 200 MB on itself while it runs (the allocator has made its plans already)
 *     exhaustion inherited runs under a limit set before exec (`ulimit -v`), which the allocator meets at its start
 */
#include "check.h"

#include <pthread.h>
#include <sys/resource.h>

struct link {
    struct link *next;
    size_t size;
};

/* The most that a process may be given under a limit set while it runs; a sane allocator stops long before. */
static size_t ceiling;

/* Allocates blocks of one size until NULL; the list of them is kept in the blocks. Returns the bytes handed out. */
static size_t fill(struct link **list, size_t size)
{
    size_t total = 0;
    for (;;) {
        errno = 0;
        struct link *block = (struct link *)malloc(size);
        if (!block) {
            CHECK(errno == ENOMEM, "malloc(%zu) that gives NULL to set ENOMEM (%d), errno is %d", size, ENOMEM, errno);
            return total;
        }
        pattern_fill(block + 1, size - sizeof *block, size);
        block->next = *list;
        block->size = size;
        *list = block;
        total += size;
        REQUIRE(total <= ceiling, "malloc(%zu) to give NULL before %zu bytes are handed out", size, ceiling);
    }
}

static void drop(struct link **list)
{
    while (*list) {
        struct link *block = *list;
        size_t size = block->size - sizeof *block;
        CHECK(pattern_holds(block + 1, size, size, block->size), "a block of %zu bytes unharmed by exhaustion", block->size);
        *list = block->next;
        free(block);
    }
}

/* With nothing left, each entry point says so in its own way, and a refused realloc leaves its block alone. */
static void nothing_left(struct link *list)
{
    size_t size = 64 * MIB;
    void *p = NULL;
    CHECK(posix_memalign(&p, 64, size) == ENOMEM && !p, "posix_memalign to return ENOMEM when memory is exhausted");
    errno = 0;
    CHECK(!calloc(1, size) && errno == ENOMEM, "calloc to set ENOMEM when memory is exhausted, errno is %d", errno);
    errno = 0;
    CHECK(!aligned_alloc(4096, size) && errno == ENOMEM, "aligned_alloc to set ENOMEM when memory is exhausted");
    errno = 0;
    CHECK(!realloc(opaque_pointer(list), size) && errno == ENOMEM, "realloc to set ENOMEM when memory is exhausted");
    errno = 0;
    CHECK(!reallocarray(opaque_pointer(list), size / 64, 64) && errno == ENOMEM, "reallocarray to set ENOMEM");
}

static void fill_and_drop(size_t size, size_t least)
{
    struct link *list = NULL;
    size_t got = fill(&list, size);
    CHECK(got >= least, "at least %zu bytes in blocks of %zu before NULL, got %zu", least, size, got);
    if (list)
        nothing_left(list);
    drop(&list);
    /* Ordinary life goes on. */
    void *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        REQUIRE(blocks[i] = malloc(i * 100 + 1), "malloc(%zu) to work again after the frees", i * 100 + 1);
        memset(blocks[i], 1, i * 100 + 1);
    }
    for (int i = 0; i < 200; i++)
        free(blocks[i]);
}

/* The threads are there from the start, as their stacks need address space too, and wait for their turn. */
enum { THREADS = 4 };
static pthread_barrier_t their_turn;

static void *fill_and_drop_beside_others(void *argument)
{
    pthread_barrier_wait(&their_turn);
    for (int turn = 0; turn < 3; turn++) {
        struct link *list = NULL;
        fill(&list, (size_t)(uintptr_t)argument);
        drop(&list);
    }
    return NULL;
}

static void start_threads(pthread_t *thread)
{
    static const size_t sizes[THREADS] = {64, 700, 20000, 300000};
    pthread_attr_t small_stack;
    pthread_attr_init(&small_stack);
    pthread_attr_setstacksize(&small_stack, 256 * KIB);
    pthread_barrier_init(&their_turn, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&thread[i], &small_stack, fill_and_drop_beside_others, (void *)sizes[i]), "a thread");
    pthread_attr_destroy(&small_stack);
}

int main(int argc, char **argv)
{
    begin("exhaustion");
    pthread_t thread[THREADS];
    start_threads(thread);
    struct rlimit limit;
    if (argc > 1 && strcmp(argv[1], "inherited") == 0) {
        getrlimit(RLIMIT_AS, &limit);
        REQUIRE(limit.rlim_cur != RLIM_INFINITY, "a limit on the address space (ulimit -v) for this run");
        ceiling = limit.rlim_cur;
    } else {
        /* A program that has lived a little before it limits itself. */
        for (size_t size = 1; size < MIB; size *= 2)
            free(malloc(size));
        limit.rlim_cur = limit.rlim_max = 200 * MIB;
        REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit to 200 MB to work");
        ceiling = 1024 * MIB;
    }
    /* A quarter of the limit is for the allocator's plans, a quarter for the program and its libraries, a quarter for
     * what several sizes cannot share: a quarter at least has to reach whoever asks, whatever the size. */
    size_t least = limit.rlim_cur / 4;
    static const size_t sizes[] = {1000, 300 * 1024, 64, 5000, 1024 * 1024, 40000, 4096, 6 * 1024 * 1024, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        fill_and_drop(sizes[i], least);
    pthread_barrier_wait(&their_turn);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    fill_and_drop(256, least);
    fill_and_drop(2 * MIB, least);
    return finish();
}
