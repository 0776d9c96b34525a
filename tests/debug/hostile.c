/* What a program may do to the checked heap, one a run: `hostile NAME`. crates/kmem-cli/tests/hostile.rs runs them, and
 * says what each must end with. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void *(*volatile get)(size_t) = malloc;
static void (*volatile put)(void *) = free;
static void *kept[20000];

/* Ends by a signal that it sends itself, though the processor found nothing. */
static int sent(void)
{
    raise(SIGSEGV);
    return 3;
}

/* Memory that is smaller than its alignment. */
static int small_and_aligned(void)
{
    for (int i = 0; i < 200; i++) {
        void *p = NULL;
        if (posix_memalign(&p, 16, 8) != 0 || (uintptr_t)p % 16 != 0 || (uintptr_t)aligned_alloc(16, 1) % 16 != 0)
            return 3;
    }
    return 0;
}

/* All of so many are lost, wherever they lie. */
static int lost(void)
{
    for (int i = 0; i < 5000; i++)
        memset(get(40), 1, 40);
    char over[4096];
    memset(over, 0, sizeof over);
    __asm__ volatile("" : : "r"(over) : "memory");
    return 0;
}

/* Pages of the program's beside those of the heap: what is kept there is not lost. */
static int beside(void)
{
    for (int i = 0; i < 100; i++) {
        void **page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[1] = get(40);
        page[2] = get(200 << 10);
    }
    return 0;
}

/* Many large objects, and much to search. */
static int much(void)
{
    for (int i = 0; i < 2000; i++)
        kept[i] = get(200 << 10);
    size_t words = 1 << 20;
    uintptr_t *text = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < words; i++)
        text[i] = (uintptr_t)kept[i % 2000] - (1 << 20);
    return 0;
}

/* Large objects that come and go at ever other addresses, and frees of what is none of them. */
static int fleeting(void)
{
    for (int i = 0; i < 20000; i++) {
        put(kept[i / 2]);
        kept[i / 2] = NULL;
        kept[i] = get((150 << 10) + (i % 64) * 4096);
    }
    return 0;
}

static void *free_twice(void *p)
{
    put(p);
    put(p);
    return NULL;
}

/* Reports of many threads at once. */
static int threads(void)
{
    pthread_t all[16];
    for (int i = 0; i < 16; i++)
        pthread_create(&all[i], NULL, free_twice, get(64));
    for (int i = 0; i < 16; i++)
        pthread_join(all[i], NULL);
    return 3;
}

/* The memory after an object becomes unreadable, so that its free meets a fault while it holds a lock. */
static int unreadable(void)
{
    char *p = get(64);
    mprotect((void *)((uintptr_t)p & ~(uintptr_t)4095), 4096, PROT_NONE);
    put(p);
    return 3;
}

/* A limit that leaves room for the zone and for little else, if that is greedy; then a buffer. */
static int limited(void)
{
    char *p = get(1 << 30);
    if (!p)
        return 3;
    p[5] = 1;
    put(p);
    return 0;
}

static void *make_sizes(void *end)
{
    for (size_t size = 16; !*(volatile int *)end; size = size % 100000 + 61)
        put(get(size));
    return NULL;
}

/* Forks while another thread takes what was never taken before: the child can take it too. */
static int forks(void)
{
    volatile int end = 0;
    pthread_t other;
    pthread_create(&other, NULL, make_sizes, (void *)&end);
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            for (size_t size = 16; size < 100000; size += 1000)
                put(get(size));
            _exit(0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        if (status != 0)
            return 3;
    }
    end = 1;
    pthread_join(other, NULL);
    return 0;
}

/* The child of a vfork frees what its parent has. */
static int vforked(void)
{
    char *p = get(40);
    pid_t child = vfork();
    if (child == 0) {
        put(p);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    put(p);
    return 3;
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } cases[] = {{"sent", sent}, {"small_and_aligned", small_and_aligned}, {"lost", lost}, {"beside", beside},
                 {"much", much}, {"fleeting", fleeting}, {"threads", threads}, {"unreadable", unreadable},
                 {"limited", limited}, {"forks", forks}, {"vforked", vforked}};
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (count > 1 && !strcmp(arguments[1], cases[i].name))
            return cases[i].run();
    return 2;
}
