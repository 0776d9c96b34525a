/* A program written for libumem: it includes <umem.h>, links with -lumem, and uses both the way their manual pages
 * describe. Each part is of the shape of what programs do with it: buffers with their sizes, a cache whose objects stay
 * constructed, a constructor that fails, a callback that ends the program or leaves by longjmp. */
#include "check.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <umem.h>

static void buffers(void)
{
    CHECK(umem_alloc(0, UMEM_DEFAULT) == NULL && umem_zalloc(0, UMEM_DEFAULT) == NULL, "nothing for 0 bytes");
    umem_free(NULL, 0);
    for (size_t size = 1; size <= 4 * MIB; size = size * 3 / 2 + 1) {
        char *buffer = umem_alloc(size, UMEM_DEFAULT), *clear = umem_zalloc(size, UMEM_NOFAIL);
        REQUIRE(buffer && clear && aligned_to(buffer, 16), "two buffers of %zu bytes", size);
        CHECK(first_nonzero(clear, size) == size, "%zu bytes of zeros", size);
        pattern_fill(buffer, size, size);
        pattern_fill(clear, size, size + 1);
        CHECK(pattern_holds(buffer, size, size, size), "a buffer to be of its own");
        umem_free(buffer, size);
        umem_free(clear, size);
    }
    for (size_t align = 1; align <= 64 * KIB; align *= 2) {
        void *buffer = umem_alloc_align(100, align, UMEM_DEFAULT);
        REQUIRE(buffer && aligned_to(buffer, align), "a buffer aligned to %zu", align);
        umem_free_align(buffer, 100);
    }
    errno = 0;
    CHECK(umem_alloc_align(100, 48, UMEM_DEFAULT) == NULL && errno == EINVAL, "an alignment to be refused");
    CHECK(umem_alloc_align(100, 3, UMEM_DEFAULT) == NULL, "a small one to be refused");
    CHECK(umem_alloc(SIZE_MAX, UMEM_DEFAULT) == NULL && errno == ENOMEM, "no memory");
    CHECK(umem_alloc(opaque(SIZE_MAX / 2), UMEM_DEFAULT) == NULL, "no memory");
}

struct foo {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct foo *list;
    int references;
};

struct life {
    long made, ended, refused, reclaims;
    int flags, fail;
};

static int foo_constructor(void *object, void *data, int flags)
{
    struct life *life = data;
    struct foo *foo = object;
    life->flags = flags;
    if (life->fail) {
        life->refused++;
        return -1;
    }
    pthread_mutex_init(&foo->lock, NULL);
    pthread_cond_init(&foo->changed, NULL);
    foo->list = NULL;
    foo->references = 1234;
    life->made++;
    return 0;
}

static void foo_destructor(void *object, void *data)
{
    struct life *life = data;
    struct foo *foo = object;
    CHECK(foo->references == 1234 && foo->list == NULL, "an object as it was constructed");
    pthread_cond_destroy(&foo->changed);
    pthread_mutex_destroy(&foo->lock);
    life->ended++;
}

static void foo_reclaim(void *data)
{
    struct life *life = data;
    life->reclaims++;
    if (life->reclaims == 2)
        life->fail = 0;
}

static void constructed(void)
{
    static struct life life;
    umem_cache_t *cache = umem_cache_create(
        "foo_cache", sizeof(struct foo), 0, foo_constructor, foo_destructor, foo_reclaim, &life, NULL, 0);
    REQUIRE(cache, "a cache with callbacks, errno %d", errno);
    CHECK(life.made == 0, "no object to be constructed before it is wanted");
    for (int i = 0; i < 1000; i++) {
        struct foo *foo = umem_cache_alloc(cache, UMEM_DEFAULT);
        REQUIRE(foo && foo->references == 1234, "a constructed object");
        pthread_mutex_lock(&foo->lock);
        pthread_mutex_unlock(&foo->lock);
        umem_cache_free(cache, foo);
    }
    CHECK(life.made == 1 && life.ended == 0, "it to stay constructed, made %ld", life.made);
    CHECK(life.flags == UMEM_DEFAULT, "the flags of the allocation");

    struct foo *all[300];
    for (int i = 0; i < 300; i++)
        CHECK((all[i] = umem_cache_alloc(cache, UMEM_NOFAIL)) != NULL, "an object");
    CHECK(life.made == 300 && life.flags == UMEM_NOFAIL, "each constructed once, made %ld", life.made);

    /* A constructor that fails: reclaim is called, and then the allocation fails. The object is none's. */
    life.fail = 1;
    CHECK(umem_cache_alloc(cache, UMEM_DEFAULT) == NULL, "an allocation to fail with its constructor");
    CHECK(life.refused == 2 && life.reclaims == 1, "a reclaim and a second try");
    /* This time reclaim helps. */
    struct foo *late = umem_cache_alloc(cache, UMEM_DEFAULT);
    CHECK(late && late->references == 1234 && life.reclaims == 2, "an object after a reclaim");
    umem_cache_free(cache, late);

    errno = 0;
    umem_cache_free(cache, &life);
    CHECK(errno == EINVAL, "what is no object to be refused");
    umem_cache_free(cache, NULL);
    umem_cache_destroy(cache);
    CHECK(errno == EBUSY, "a cache in use to stay");
    for (int i = 0; i < 300; i++)
        umem_cache_free(cache, all[i]);
    umem_cache_destroy(cache);
    CHECK(life.made == 301 && life.ended == life.made, "made %ld, ended %ld", life.made, life.ended);
    errno = 0;
    CHECK(umem_cache_alloc(cache, UMEM_DEFAULT) == NULL && errno == EINVAL, "nothing of a cache that is gone");
}

static void refused(void)
{
    static const struct {
        size_t size, align;
        int flags;
    } wrong[] = {{0, 0, 0}, {64, 3, 0}, {64, 128 * KIB, 0}, {5 * MIB, 0, 0}, {SIZE_MAX, 0, 0}, {64, 0, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        errno = 0;
        CHECK(!umem_cache_create("w", wrong[i].size, wrong[i].align, foo_constructor, NULL, NULL, NULL, NULL, wrong[i].flags)
                && errno == EINVAL,
            "cache %zu to be refused", i);
    }
    CHECK(!umem_cache_create("w", 64, 0, NULL, NULL, NULL, NULL, (vmem_t *)&errno, 0), "a source to be refused");
    /* Names are for people here: they may be the same, long, and anything. */
    umem_cache_t *caches[20];
    for (int i = 0; i < 20; i++) {
        caches[i] = umem_cache_create(
            i % 2 ? "the same" : "a very long name, longer than any name of a cache can be \xff\xff\xff in the end", 40, 8,
            NULL, NULL, NULL, NULL, NULL, UMC_NODEBUG);
        REQUIRE(caches[i], "cache %d, errno %d", i, errno);
    }
    void *of_first = umem_cache_alloc(caches[0], 0);
    errno = 0;
    umem_cache_free(caches[1], of_first);
    CHECK(errno == EINVAL, "an object of another cache to be refused");
    umem_cache_free(caches[0], of_first);
    for (int i = 0; i < 20; i++)
        umem_cache_destroy(caches[i]);
    umem_cache_t *nameless = umem_cache_create(NULL, 8, 0, NULL, NULL, NULL, NULL, NULL, 0);
    REQUIRE(nameless, "a cache without a name");
    umem_cache_destroy(nameless);
}

static int asked;
static jmp_buf out;

static int again_and_exit(void)
{
    return ++asked < 3 ? UMEM_CALLBACK_RETRY : UMEM_CALLBACK_EXIT(33);
}

static int leave(void)
{
    longjmp(out, 1);
}

/* The status with which a child ends that asks for more than there is. */
static int end_of_child(umem_nofail_callback_t *callback)
{
    pid_t child = fork();
    if (child == 0) {
        umem_nofail_callback(callback);
        umem_alloc(opaque(SIZE_MAX / 2), UMEM_NOFAIL);
        _exit(99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void not_failing(void)
{
    CHECK(end_of_child(NULL) == 255, "the program to exit with 255 without a callback");
    CHECK(end_of_child(again_and_exit) == 33, "the program to exit as its callback says");
    umem_nofail_callback(leave);
    if (setjmp(out) == 0) {
        umem_alloc(opaque(SIZE_MAX / 2), UMEM_NOFAIL);
        CHECK(0, "an allocation not to return");
    }
    umem_nofail_callback(NULL);
    void *buffer = umem_alloc(100, UMEM_NOFAIL);
    CHECK(buffer, "memory after a callback that left");
    umem_free(buffer, 100);
}

static void *use(void *argument)
{
    struct foo *held[32] = {0};
    for (int i = 0; i < 20000; i++) {
        int at = i * 7 % 32;
        if (held[at])
            umem_cache_free(argument, held[at]);
        held[at] = umem_cache_alloc(argument, UMEM_NOFAIL);
        CHECK(held[at]->references == 1234, "a constructed object");
    }
    for (int i = 0; i < 32; i++)
        umem_cache_free(argument, held[i]);
    return NULL;
}

static int plain_constructor(void *object, void *data, int flags)
{
    (void)data, (void)flags;
    ((struct foo *)object)->references = 1234;
    return 0;
}

static void threads(void)
{
    umem_cache_t *cache =
        umem_cache_create("shared", sizeof(struct foo), 64, plain_constructor, NULL, NULL, NULL, NULL, UMC_NODEBUG);
    pthread_t users[4];
    REQUIRE(cache, "a cache");
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&users[i], NULL, use, cache) == 0, "a thread");
    for (int i = 0; i < 4; i++)
        pthread_join(users[i], NULL);
    errno = 0;
    umem_cache_destroy(cache);
    CHECK(errno == 0, "nothing lost");
}

int main(void)
{
    begin("umem");
    buffers();
    constructed();
    refused();
    not_failing();
    threads();
    return finish();
}
