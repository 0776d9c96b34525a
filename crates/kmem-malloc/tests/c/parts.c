/* A program that brings malloc, realloc and free of its own, each a few lines over glibc's other names, and leaves the
 * rest of the family to whatever else there is. All of libc allocates and frees by the program's functions then, and what
 * the rest of the family gave comes to them too.
 */
#include "check.h"

#include <locale.h>
#include <pthread.h>

void *__libc_malloc(size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static unsigned long allocated, freed;

void *malloc(size_t size)
{
    __atomic_fetch_add(&allocated, 1, __ATOMIC_RELAXED);
    return __libc_malloc(size);
}

void *realloc(void *p, size_t size)
{
    __atomic_fetch_add(&allocated, p == NULL, __ATOMIC_RELAXED);
    return __libc_realloc(p, size);
}

void free(void *p)
{
    __atomic_fetch_add(&freed, p != NULL, __ATOMIC_RELAXED);
    __libc_free(p);
}

static void *work(void *seed)
{
    for (size_t i = 1; i < 2000; i++) {
        size_t size = i * 37 % 50000 + 1;
        void *p = i % 3 == 0 ? malloc(size) : i % 3 == 1 ? calloc(1, size) : aligned_alloc(64, size);
        REQUIRE(p, "memory of %zu bytes", size);
        pattern_fill(p, size, (uint64_t)(uintptr_t)seed + i);
        p = realloc(p, size + 1000);
        REQUIRE(p && pattern_holds(p, size, size, (uint64_t)(uintptr_t)seed + i), "realloc to keep %zu bytes", size);
        free(p);
    }
    return NULL;
}

int main(void)
{
    begin("parts");
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, (void *)(i * 10000));
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);

    unsigned long before = allocated, ended = freed;
    char *copy = strdup("a string"), *line = NULL;
    REQUIRE(copy, "strdup to give memory");
    CHECK(allocated > before, "libc to allocate by the program's malloc");
    free(copy);
    size_t room = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    REQUIRE(file && getline(&line, &room, file) > 0, "a line of /proc/self/maps");
    fclose(file);
    free(line);
    CHECK(freed > ended, "libc to free by the program's free");
    CHECK(asprintf(&line, "%s", setlocale(LC_ALL, "C")) > 0, "asprintf to give a string");
    free(line);
    return finish();
}
