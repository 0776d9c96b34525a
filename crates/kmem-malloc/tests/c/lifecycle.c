/* The edges of a process: allocation before main, in the order of the loader and not of the allocator (the executable's
 * preinit array, its constructors, the constructors of libraries it is linked with), allocation and frees in atexit
 * handlers and destructors after main, and shared objects that come with dlopen and go with dlclose.
 *
 *     lifecycle PLUGIN     PLUGIN is the path of plugin.c as a shared object
 */
#include "check.h"

#include <dlfcn.h>
#include <sys/wait.h>

enum { EARLY = 200 };

struct early {
    void *block[EARLY];
    int ran;
};
static struct early in_preinit, in_constructor;

static size_t early_size(int i)
{
    return i % 40 == 39 ? (size_t)i * 10000 : (size_t)i * 20 + 1;
}

static void allocate_early(struct early *early)
{
    for (int i = 0; i < EARLY; i++) {
        void *p = NULL;
        if (i % 4 == 0)
            p = malloc(early_size(i));
        else if (i % 4 == 1)
            p = calloc(1, early_size(i));
        else if (i % 4 == 2)
            p = realloc(malloc(5), early_size(i));
        else if (posix_memalign(&p, 64, early_size(i)))
            p = NULL;
        if (!p)
            abort();
        pattern_fill(p, early_size(i), (uint64_t)i);
        early->block[i] = p;
    }
    early->ran = 1;
}

static void free_early(struct early *early, const char *where)
{
    CHECK(early->ran, "%s to have run before main", where);
    for (int i = 0; early->ran && i < EARLY; i++) {
        CHECK(pattern_holds(early->block[i], early_size(i), early_size(i), (uint64_t)i),
              "the %zu bytes allocated in %s to be there in main", early_size(i), where);
        free(early->block[i]);
    }
}

static void preinit(void)
{
    allocate_early(&in_preinit);
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

__attribute__((constructor(101))) static void constructor(void)
{
    allocate_early(&in_constructor);
}

/* ---- After main: each handler frees what main left, allocates, frees, and reports one byte through a pipe. ---- */

static void *left_by_main[3];
static int report = -1;

static void late(int which)
{
    void *block[200];
    free(left_by_main[which]);
    left_by_main[which] = NULL;
    for (int i = 0; i < 200; i++) {
        block[i] = calloc((size_t)i * 50 + 1, 1);
        if (!block[i] || first_nonzero(block[i], (size_t)i * 50 + 1) != (size_t)i * 50 + 1)
            _exit(8);
        memset(block[i], 1, (size_t)i * 50 + 1);
    }
    for (int i = 0; i < 200; i++)
        free(block[i]);
    char byte = (char)('0' + which);
    if (write(report, &byte, 1) != 1)
        _exit(8);
}

static void first_handler(void)
{
    late(0);
}
static void second_handler(void)
{
    late(1);
}
__attribute__((destructor)) static void destructor(void)
{
    if (report >= 0)
        late(2);
}

static void after_main(void)
{
    int ends[2];
    REQUIRE(pipe(ends) == 0, "a pipe");
    pid_t child = fork();
    REQUIRE(child >= 0, "fork to work");
    if (child == 0) {
        close(ends[0]);
        report = ends[1];
        for (int i = 0; i < 3; i++)
            left_by_main[i] = malloc((size_t)1 << (8 * (i + 1)));
        for (int i = 0; i < 100; i++)
            atexit(i % 2 ? first_handler : second_handler); /* more than the first block of atexit's own table */
        exit(0);
    }
    close(ends[1]);
    char seen[300];
    size_t got = 0;
    ssize_t step;
    while (got < sizeof seen && (step = read(ends[0], seen + got, sizeof seen - got)) > 0)
        got += (size_t)step;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(status == 0, "a process with busy atexit handlers to leave by exit(0), wait status is 0x%x", status);
    CHECK(got == 101 && seen[0] == '0' && seen[100] == '2', "100 handlers and the destructor to have run, %zu did", got);
}

/* ---- dlopen and dlclose ---- */

static void plugins(const char *path)
{
    enum { TURNS = 200 };
    char *kept[TURNS];
    for (int turn = 0; turn < TURNS; turn++) {
        void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        REQUIRE(plugin, "dlopen(%s) to work: %s", path, dlerror());
        char *(*copy)(const char *) = (char *(*)(const char *))(uintptr_t)dlsym(plugin, "plugin_copy");
        void (*give)(void *) = (void (*)(void *))(uintptr_t)dlsym(plugin, "plugin_free");
        REQUIRE(copy && give, "the plugin's functions");
        kept[turn] = copy("allocated in a plugin, freed after it is gone");
        REQUIRE(kept[turn], "the plugin to allocate");
        give(malloc((size_t)turn * 1000 + 1));
        REQUIRE(dlclose(plugin) == 0, "dlclose to work: %s", dlerror());
    }
    for (int turn = 0; turn < TURNS; turn++) {
        CHECK(strcmp(kept[turn], "allocated in a plugin, freed after it is gone") == 0, "memory to outlive its plugin");
        free(kept[turn]);
    }
}

char *plugin_copy(const char *text);

int main(int argc, char **argv)
{
    begin("lifecycle");
    REQUIRE(argc == 2, "the path of the plugin as argument");
    free_early(&in_preinit, "the preinit array");
    free_early(&in_constructor, "a constructor");
    free(plugin_copy("from the library that is linked"));
    after_main();
    plugins(argv[1]);
    return finish();
}
