/* glibc's other names for the malloc family are names of the library's functions: what one name gave, any other takes, in
 * both directions; also where a name is called through a pointer that was initialised statically, and where a program
 * was linked with cfree when that still had a version of its own.
 */
#include "check.h"

#include <dlfcn.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);
void __libc_free(void *p);
/* Not in every glibc. */
__attribute__((weak)) int __posix_memalign(void **place, size_t alignment, size_t size);
/* glibc keeps it for programs that were linked before 2.26; no new one can be linked without asking for the version. */
extern void cfree_of_old(void *p);
__asm__(".symver cfree_of_old, cfree@GLIBC_2.2.5");

/* A shim's table: what it wraps, known before anything runs. */
static void *(*const wrapped_malloc)(size_t) = __libc_malloc;
static void (*const wrapped_free)(void *) = __libc_free;
static void *(*wrapped_realloc)(void *, size_t) = __libc_realloc;

static void *zeroed(size_t size) { return __libc_calloc(1, size); }
static void *grown(size_t size) { return __libc_realloc(malloc(size / 2 + 1), size); }
static void *grown_of_other(size_t size) { return realloc(__libc_malloc(size / 2 + 1), size); }
static void *grown_by_pointer(size_t size) { return wrapped_realloc(NULL, size); }
static void *aligned(size_t size) { return __libc_memalign(256, size); }
static void *aligned_of_posix(size_t size)
{
    void *p = NULL;
    int error = __posix_memalign ? __posix_memalign(&p, 256, size) : posix_memalign(&p, 256, size);
    CHECK(error == 0, "__posix_memalign to return 0, got %d", error);
    return p;
}

static int same_library(void *a, void *b)
{
    Dl_info of_a, of_b;
    return dladdr(a, &of_a) && dladdr(b, &of_b) && of_a.dli_fbase == of_b.dli_fbase;
}

struct way {
    const char *name;
    void *(*get)(size_t);
    size_t alignment;
};

static const struct way ways[] = {
    {"malloc", malloc, 16},
    {"__libc_malloc", __libc_malloc, 16},
    {"__libc_malloc by a pointer", NULL, 16},
    {"__libc_calloc", zeroed, 16},
    {"__libc_realloc of malloc's", grown, 16},
    {"realloc of __libc_malloc's", grown_of_other, 16},
    {"__libc_realloc by a pointer", grown_by_pointer, 16},
    {"__libc_memalign", aligned, 256},
    {"__posix_memalign", aligned_of_posix, 256},
    {"__libc_valloc", __libc_valloc, 4096},
    {"__libc_pvalloc", __libc_pvalloc, 4096},
};

int main(void)
{
    static const size_t sizes[] = {1, 100, 4000, 40000, 300000, 3000000};
    begin("names");
    if (kmem_expected()) {
        CHECK(__posix_memalign, "__posix_memalign to be there");
        CHECK(same_library((void *)malloc, (void *)__libc_malloc), "__libc_malloc to be of malloc's library");
        CHECK(same_library((void *)malloc, (void *)cfree_of_old), "cfree, of the version that it had, to be of malloc's library");
    }
    void (*const frees[])(void *) = {free, __libc_free, wrapped_free, cfree_of_old};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            for (size_t k = 0; k < sizeof frees / sizeof *frees; k++) {
                void *p = (ways[i].get ? ways[i].get : wrapped_malloc)(sizes[j]);
                REQUIRE(p, "%s of %zu bytes to give memory", ways[i].name, sizes[j]);
                CHECK(aligned_to(p, ways[i].alignment), "%s at a multiple of %zu, got %p", ways[i].name,
                      ways[i].alignment, p);
                CHECK(malloc_usable_size(p) >= sizes[j], "malloc_usable_size after %s at least %zu", ways[i].name,
                      sizes[j]);
                pattern_fill(p, sizes[j], i + j);
                p = k & 1 ? realloc(p, 2 * sizes[j]) : __libc_realloc(p, 2 * sizes[j]);
                REQUIRE(p, "a realloc of what %s gave", ways[i].name);
                CHECK(pattern_holds(p, sizes[j], sizes[j], i + j), "a realloc of what %s gave to keep it", ways[i].name);
                frees[k](p);
            }
        }
    }
    return finish();
}
