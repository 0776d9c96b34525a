/* The functions of kmem.h: what each does, and that each refuses what it cannot do, by errno, and loses nothing by it.
 * Linked with the library, because these are not names that a program has anyway. */
#include "check.h"

#include <pthread.h>

#include "../../include/kmem.h"

#define REFUSED(call, wanted, error)                                                                                   \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CHECK((call) == (wanted), "%s to fail", #call);                                                                \
        CHECK(errno == (error), "%s to say %s, got %d", #call, #error, errno);                                         \
    } while (0)

static kmem_cache *create(const char *name, size_t size, size_t align)
{
    kmem_cache *cache = kmem_cache_create(name, size, align, NULL, NULL, NULL);
    REQUIRE(cache, "a cache %s, errno %d", name, errno);
    return cache;
}

static size_t in_use(kmem_cache *cache)
{
    kmem_cache_figures figures;
    REQUIRE(kmem_cache_stats(cache, &figures, sizeof figures) == 0, "figures of a cache");
    return figures.in_use;
}

static void creates(void)
{
    static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123";
    REFUSED(kmem_cache_create(NULL, 8, 0, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("", 8, 0, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("\xff\xfe", 8, 0, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create(long_name, 8, 0, NULL, NULL, NULL), NULL, ENAMETOOLONG);
    REFUSED(kmem_cache_create("size", 0, 0, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("size", 5 * MIB, 0, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("size", SIZE_MAX, 0, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("align", 64, 48, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("align", 64, 128 * KIB, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_cache_create("align", 64, SIZE_MAX / 2 + 1, NULL, NULL, NULL), NULL, EINVAL);
    kmem_cache *cache = create("taken", 8, 0);
    REFUSED(kmem_cache_create("taken", 8, 0, NULL, NULL, NULL), NULL, EEXIST);
    CHECK(kmem_cache_destroy(cache) == 0, "an unused cache to be destroyed");
    for (size_t align = 1; align <= 64 * KIB; align *= 2) {
        cache = create("aligned", 100, align);
        void *object = kmem_cache_alloc(cache);
        REQUIRE(object && aligned_to(object, align), "an object aligned to %zu, got %p", align, object);
        memset(object, 1, 100);
        CHECK(kmem_cache_free(cache, object) == 0, "it to be freed");
        CHECK(kmem_cache_destroy(cache) == 0, "its cache to be destroyed");
    }
}

/* Every function with a handle that names nothing. */
static void refuses(kmem_cache *nothing)
{
    void *places[2] = {places, places};
    size_t released = 7;
    kmem_cache_figures figures;
    REFUSED(kmem_cache_alloc(nothing), NULL, EINVAL);
    REFUSED(kmem_cache_free(nothing, places), -1, EINVAL);
    REFUSED(kmem_cache_free(nothing, NULL), -1, EINVAL);
    REFUSED(kmem_cache_alloc_bulk(nothing, 2, places), 0, EINVAL);
    REFUSED(kmem_cache_free_bulk(nothing, 2, places), -1, EINVAL);
    REFUSED(kmem_cache_shrink(nothing, &released), -1, EINVAL);
    REFUSED(kmem_cache_tune(nothing, 8, KMEM_UNCHANGED, KMEM_UNCHANGED), -1, EINVAL);
    REFUSED(kmem_cache_stats(nothing, &figures, sizeof figures), -1, EINVAL);
    REFUSED(kmem_cache_destroy(nothing), -1, EINVAL);
    CHECK(released == 7, "nothing to be stored where a call fails");
}

static void handles(void)
{
    kmem_cache *cache = create("gone", 64, 0), *again;
    uintptr_t word = (uintptr_t)cache;
    refuses(NULL);
    refuses((kmem_cache *)&word);
    refuses((kmem_cache *)(word ^ 1));
    refuses((kmem_cache *)(word ^ (uintptr_t)1 << 40));
    refuses((kmem_cache *)(word ^ (uintptr_t)1 << 62));
    refuses((kmem_cache *)(word | 0xffff));
    refuses((kmem_cache *)UINTPTR_MAX);
    CHECK(kmem_cache_destroy(cache) == 0, "a cache to be destroyed");
    refuses(cache);
    /* Its entry is used again, if not at once, and the old handle still names nothing. */
    for (int i = 0; i < 40000; i++) {
        again = create("gone", 64, 0);
        CHECK(again != cache, "another handle for another cache");
        CHECK(kmem_cache_destroy(again) == 0, "it to be destroyed");
    }
    refuses(cache);
    refuses(again);
}

static void objects(void)
{
    kmem_cache *cache = create("objects", 48, 0), *other = create("others", 48, 0);
    char *object = kmem_cache_alloc(cache), *foreign = kmem_cache_alloc(other), *block = malloc(48);
    static char outside[64] __attribute__((aligned(64)));
    REQUIRE(object && foreign && block, "memory");
    REFUSED(kmem_cache_free(cache, foreign), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, block), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, outside), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, &foreign), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, object + 8), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, object + 1), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, (void *)8), -1, EINVAL);
    REFUSED(kmem_cache_free(cache, (void *)UINTPTR_MAX), -1, EINVAL);
    CHECK(in_use(cache) == 1 && in_use(other) == 1, "nothing freed by that");
    REFUSED(kmem_cache_destroy(cache), -1, EBUSY);
    errno = 3;
    CHECK(kmem_cache_free(cache, object) == 0 && kmem_cache_free(cache, NULL) == 0 && errno == 3, "an object freed");
    CHECK(kmem_cache_free(other, foreign) == 0, "the other freed");
    free(block);
    CHECK(kmem_cache_destroy(cache) == 0 && kmem_cache_destroy(other) == 0, "both destroyed");
}

static void bulks(void)
{
    enum { MANY = 3000 };
    static void *places[MANY];
    kmem_cache *cache = create("bulk", 40, 8);
    char *of_places = (char *)places;
    REFUSED(kmem_cache_alloc_bulk(cache, 1, NULL), 0, EINVAL);
    REFUSED(kmem_cache_alloc_bulk(cache, SIZE_MAX, places), 0, EINVAL);
    REFUSED(kmem_cache_alloc_bulk(cache, 1, (void **)(of_places + 1)), 0, EINVAL);
    CHECK(kmem_cache_alloc_bulk(cache, 0, NULL) == 0, "none of none");
    for (size_t count = 1; count <= MANY; count += 299) {
        CHECK(kmem_cache_alloc_bulk(cache, count, places) == count, "%zu objects", count);
        CHECK(in_use(cache) == count, "%zu in use, got %zu", count, in_use(cache));
        for (size_t i = 0; i < count; i++)
            pattern_fill(places[i], 40, i);
        for (size_t i = 0; i < count; i++)
            CHECK(pattern_holds(places[i], 40, 40, i), "object %zu to be another than all others", i);
        void *last = places[count - 1];
        places[count - 1] = of_places;
        REFUSED(kmem_cache_free_bulk(cache, count, places), -1, EINVAL);
        places[count - 1] = NULL;
        REFUSED(kmem_cache_free_bulk(cache, count, places), -1, EINVAL);
        CHECK(in_use(cache) == count, "nothing freed by that");
        places[count - 1] = last;
        CHECK(kmem_cache_free_bulk(cache, count, places) == 0, "%zu objects freed", count);
        CHECK(in_use(cache) == 0, "none in use");
    }
    CHECK(kmem_cache_free_bulk(cache, 0, NULL) == 0, "none of none");
    CHECK(kmem_cache_destroy(cache) == 0, "the cache destroyed");
}

struct counts {
    long made, ended;
    kmem_cache *cache;
};

struct item {
    long magic, uses;
};

static void make(void *object, void *context)
{
    struct counts *counts = context;
    *(struct item *)object = (struct item){0x6b6d656d, 0};
    __atomic_add_fetch(&counts->made, 1, __ATOMIC_RELAXED);
}

static void end(void *object, void *context)
{
    struct counts *counts = context;
    CHECK(((struct item *)object)->magic == 0x6b6d656d, "a destructor to get an object that was made");
    __atomic_add_fetch(&counts->ended, 1, __ATOMIC_RELAXED);
    REFUSED(kmem_cache_destroy(NULL), -1, EINVAL);
    free(malloc(100));
}

static void constructors(void)
{
    static struct counts counts;
    REFUSED(kmem_cache_create("items", sizeof(struct item), 0, NULL, end, &counts), NULL, EINVAL);
    kmem_cache *cache = kmem_cache_create("items", sizeof(struct item), 0, make, end, &counts);
    REQUIRE(cache, "a cache with a constructor");
    counts.cache = cache;
    for (int i = 0; i < 1000; i++) {
        struct item *item = kmem_cache_alloc(cache);
        REQUIRE(item && item->magic == 0x6b6d656d, "a constructed object");
        item->uses++;
        CHECK(kmem_cache_free(cache, item) == 0, "it freed");
    }
    CHECK(counts.made >= 1 && counts.made < 1000, "objects to stay constructed, made %ld", counts.made);
    size_t released = 0;
    CHECK(kmem_cache_shrink(cache, &released) == 0 && released > 0, "memory released");
    CHECK(counts.made == counts.ended, "made %ld, ended %ld", counts.made, counts.ended);
    struct item *item = kmem_cache_alloc(cache);
    REQUIRE(item && item->uses == 0, "a new object");
    CHECK(kmem_cache_free(cache, item) == 0 && kmem_cache_destroy(cache) == 0, "all of it gone");
    CHECK(counts.made == counts.ended, "made %ld, ended %ld", counts.made, counts.ended);
}

static void figures(void)
{
    kmem_cache *cache = create("figures", 100, 8);
    struct {
        kmem_cache_figures figures;
        size_t newer[2];
    } newer;
    size_t older[2] = {1, 1};
    void *object = kmem_cache_alloc(cache);
    memset(&newer, 1, sizeof newer);
    CHECK(kmem_cache_stats(cache, &newer.figures, sizeof newer) == 0, "figures for a newer header");
    CHECK(newer.newer[0] == 0 && newer.newer[1] == 0, "0 in what is not known");
    CHECK(newer.figures.object_size == 100 && newer.figures.stride >= 100, "the size of objects");
    CHECK(newer.figures.in_use == 1 && newer.figures.slabs == 1 && newer.figures.bytes >= 4096, "an object in use");
    CHECK(kmem_cache_stats(cache, (kmem_cache_figures *)older, sizeof older[0]) == 0, "figures for an older header");
    CHECK(older[0] == 100 && older[1] == 1, "no more than it has room for");
    REFUSED(kmem_cache_stats(cache, NULL, sizeof newer), -1, EINVAL);
    REFUSED(kmem_cache_stats(cache, &newer.figures, 0), -1, EINVAL);
    REFUSED(kmem_cache_stats(cache, &newer.figures, SIZE_MAX), -1, EINVAL);
    REFUSED(kmem_cache_stats(cache, (kmem_cache_figures *)((char *)&newer + 1), 16), -1, EINVAL);

    CHECK(kmem_cache_tune(cache, 10, 5, 1) == 0, "a cache tuned");
    CHECK(kmem_cache_stats(cache, &newer.figures, sizeof newer.figures) == 0 && newer.figures.limit == 10, "its limit");
    CHECK(kmem_cache_tune(cache, KMEM_UNCHANGED, KMEM_UNCHANGED, KMEM_UNCHANGED) == 0, "a cache left as it is");
    REFUSED(kmem_cache_tune(cache, 0, KMEM_UNCHANGED, KMEM_UNCHANGED), -1, EINVAL);
    REFUSED(kmem_cache_tune(cache, 1 << 20, KMEM_UNCHANGED, KMEM_UNCHANGED), -1, EINVAL);
    REFUSED(kmem_cache_tune(cache, KMEM_UNCHANGED, 11, KMEM_UNCHANGED), -1, EINVAL);
    REFUSED(kmem_cache_tune(cache, KMEM_UNCHANGED, KMEM_UNCHANGED, 257), -1, EINVAL);
    CHECK(kmem_cache_free(cache, object) == 0 && kmem_cache_destroy(cache) == 0, "all of it gone");

    kmem_memory_figures memory;
    char *block = malloc(8 * MIB);
    CHECK(kmem_memory_stats(&memory, sizeof memory) == 0, "figures of the process");
    CHECK(memory.large >= 8 * MIB && memory.committed >= memory.large, "large blocks among them");
    REFUSED(kmem_memory_stats(NULL, sizeof memory), -1, EINVAL);
    CHECK(kmem_usable_size(block) >= 8 * MIB && kmem_usable_size(block + 16) == 0, "the size of a block");
    CHECK(kmem_usable_size(NULL) == 0 && kmem_usable_size(&memory) == 0, "no size of what is not kmem's");
    memset(block, 1, 8 * MIB);
    free(block);
    size_t released = 0;
    CHECK(kmem_release_memory(&released) == 0 && released > 0, "memory released, got %zu", released);
    CHECK(kmem_release_memory(NULL) == 0, "memory released without a number");
}

static void cpus(void)
{
    size_t possible = kmem_cpus_possible();
    CHECK(kmem_cpus_follow(0) == 1 && kmem_cpus_follow(0) == 0, "what was so before");
    REFUSED(kmem_cpus_follow(2), -1, EINVAL);
    REFUSED(kmem_cpu_down(possible), -1, EINVAL);
    REFUSED(kmem_cpu_up(SIZE_MAX), -1, EINVAL);
    CHECK(!kmem_cpu_is_online(possible) && !kmem_cpu_is_online(SIZE_MAX), "no such CPU online");
    size_t online = 0, first = possible;
    for (size_t cpu = 0; cpu < possible; cpu++) {
        online += kmem_cpu_is_online(cpu);
        if (first == possible && kmem_cpu_is_online(cpu))
            first = cpu;
    }
    REQUIRE(online >= 1, "a CPU online");
    REFUSED(kmem_cpu_up(first), -1, EBUSY);
    if (online > 1) {
        CHECK(kmem_cpu_down(first) == 0 && !kmem_cpu_is_online(first), "a CPU down");
        REFUSED(kmem_cpu_down(first), -1, EBUSY);
        free(malloc(100));
        CHECK(kmem_cpu_up(first) == 0 && kmem_cpu_is_online(first), "it up again");
    } else {
        REFUSED(kmem_cpu_down(first), -1, EBUSY);
    }
    CHECK(kmem_cpus_follow(1) == 0, "followed again");
}

static void *work(void *argument)
{
    kmem_cache *shared = argument;
    char name[32];
    snprintf(name, sizeof name, "of-%ld", (long)gettid());
    for (int round = 0; round < 200; round++) {
        void *places[64];
        kmem_cache *own = create(name, 24 + (size_t)round % 9 * 8, 8);
        CHECK(kmem_cache_alloc_bulk(shared, 64, places) == 64, "objects of a shared cache");
        void *object = kmem_cache_alloc(own);
        CHECK(object && kmem_cache_free(own, object) == 0, "an object of the thread's own cache");
        CHECK(kmem_cache_free_bulk(shared, 64, places) == 0, "objects freed");
        CHECK(kmem_cache_destroy(own) == 0, "its own cache destroyed");
    }
    return NULL;
}

static void threads(void)
{
    kmem_cache *shared = create("shared", 64, 0);
    pthread_t workers[4];
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&workers[i], NULL, work, shared) == 0, "a thread");
    for (int i = 0; i < 4; i++)
        pthread_join(workers[i], NULL);
    CHECK(in_use(shared) == 0 && kmem_cache_destroy(shared) == 0, "nothing lost");
}

static size_t used(kmem_account *account)
{
    kmem_account_figures figures;
    REQUIRE(kmem_account_stats(account, &figures, sizeof figures) == 0, "figures of an account");
    return figures.used;
}

struct room {
    kmem_cache *cache;
    void *spare;
    int calls;
};

static int make_room(size_t wanted, size_t in_account, size_t limit, void *context)
{
    struct room *room = context;
    CHECK(wanted == 64 && in_account >= limit, "%zu wanted, %zu of %zu used", wanted, in_account, limit);
    REFUSED(kmem_cache_alloc(room->cache), NULL, EDQUOT);
    room->calls++;
    if (!room->spare)
        return 0;
    kmem_cache_free(room->cache, room->spare);
    room->spare = NULL;
    return 1;
}

static void accounts(void)
{
    void *objects[101];
    REFUSED(kmem_account_create(NULL, 1, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_account_create("", 1, NULL, NULL, NULL), NULL, EINVAL);
    REFUSED(kmem_account_create("child", 1, (kmem_account *)objects, NULL, NULL), NULL, EINVAL);
    struct room room = {0};
    kmem_account *house = kmem_account_create("house", 100 * 64, NULL, make_room, &room);
    kmem_account *child = kmem_account_create("child", SIZE_MAX, house, NULL, NULL);
    REQUIRE(house && child, "two accounts, errno %d", errno);
    REFUSED(kmem_account_create("house", 1, NULL, NULL, NULL), NULL, EEXIST);
    kmem_cache *cache = create("charged", 64, 0);
    REFUSED(kmem_cache_charge(NULL, house), -1, EINVAL);
    REFUSED(kmem_cache_charge(cache, NULL), -1, EINVAL);
    REFUSED(kmem_cache_charge(cache, (kmem_account *)cache), -1, EINVAL);
    CHECK(kmem_cache_charge(cache, child) == 0, "a cache charged, errno %d", errno);
    REFUSED(kmem_cache_charge(cache, house), -1, EBUSY);
    room.cache = cache;
    room.spare = kmem_cache_alloc(cache);
    errno = 0;
    CHECK(kmem_cache_alloc_bulk(cache, 101, objects) == 100 && errno == EDQUOT, "100 objects, errno %d", errno);
    CHECK(room.calls == 2 && !room.spare, "a call that makes room, and one that does not: %d", room.calls);
    CHECK(used(house) == 6400 && used(child) == 6400, "%zu and %zu bytes charged", used(house), used(child));
    CHECK(kmem_account_set_limit(house, 50 * 64) == 0, "a lower limit");
    REFUSED(kmem_cache_alloc(cache), NULL, EDQUOT);
    CHECK(kmem_cache_free_bulk(cache, 100, objects) == 0 && used(house) <= 50 * 64, "%zu bytes charged", used(house));
    kmem_account_figures figures;
    CHECK(kmem_account_stats(house, &figures, sizeof figures) == 0 && figures.high == 6400 && figures.refused >= 2,
          "%zu bytes at most, %zu refused", figures.high, figures.refused);
    CHECK(kmem_account_destroy(child) == 0, "a handle given up");
    REFUSED(kmem_account_destroy(child), -1, EINVAL);
    REFUSED(kmem_account_set_limit(child, 1), -1, EINVAL);
    REFUSED(kmem_account_stats(child, &figures, sizeof figures), -1, EINVAL);
    kmem_cache *old = create("old", 64, 0);
    CHECK(kmem_cache_free(old, kmem_cache_alloc(old)) == 0, "an object that came and went");
    REFUSED(kmem_cache_charge(old, house), -1, EBUSY);
    CHECK(kmem_cache_destroy(old) == 0, "its cache destroyed");
    CHECK(kmem_cache_destroy(cache) == 0 && used(house) == 0, "nothing charged");
    CHECK(kmem_account_destroy(house) == 0, "the other handle given up");
    house = kmem_account_create("house", 1, NULL, NULL, NULL);
    CHECK(house && kmem_account_destroy(house) == 0, "the name free again");
}

int main(void)
{
    begin("api");
    creates();
    handles();
    objects();
    bulks();
    constructors();
    figures();
    accounts();
    cpus();
    threads();
    return finish();
}
