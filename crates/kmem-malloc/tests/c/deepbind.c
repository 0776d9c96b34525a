/* A plugin that is opened with RTLD_DEEPBIND frees what its host allocated, and the host what the plugin allocated, in
 * either order and on any thread; whoever calls dlopen stays the caller, by whose RUNPATH a bare name is found; and what
 * cannot be opened is an error as ever. Argument: "keep" where KMEM_DEEPBIND=keep leaves plugins their own malloc: then
 * each side frees its own; "cross" to free what another namespace (dlmopen) allocated, which must not go well.
 */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

typedef void *get_function(size_t size);
typedef void drop_function(void *p);
typedef const char *whose_function(void);

/* The plugin has a function of the same name: with the flag it finds its own. */
const char *whose(void)
{
    return "host";
}

static void *open_plugin(const char *name, int flags)
{
    void *plugin = dlopen(name, RTLD_NOW | flags);
    REQUIRE(plugin, "dlopen(%s): %s", name, dlerror());
    return plugin;
}

static void *cross(void *argument)
{
    void *plugin = open_plugin("deepbind-plugin.so", RTLD_DEEPBIND);
    get_function *get = (get_function *)dlsym(plugin, "plugin_get");
    drop_function *drop = (drop_function *)dlsym(plugin, "plugin_drop");
    whose_function *whose_is_called = (whose_function *)dlsym(plugin, "plugin_whose");
    REQUIRE(get && drop && whose_is_called, "the functions of the plugin");
    int keep = argument != NULL;
    if (kmem_expected())
        CHECK(strcmp(whose_is_called(), keep ? "plugin" : "host") == 0, "the plugin %s, it called that of the %s",
              keep ? "to be isolated" : "not to be isolated", whose_is_called());
    for (size_t i = 1; i < 3000; i++) {
        size_t size = i * 61 % 90000 + 1;
        void *ours = malloc(size), *theirs = get(size);
        REQUIRE(ours && theirs, "memory of %zu bytes", size);
        pattern_fill(ours, size, i);
        pattern_fill(theirs, size, i + 1);
        CHECK(pattern_holds(ours, size, size, i), "%zu bytes to be as they were", size);
        drop(keep ? theirs : ours);
        free(keep ? ours : theirs);
    }
    return NULL;
}

static void namespaces(void)
{
    void *plugin = dlmopen(LM_ID_NEWLM, "deepbind-plugin.so", RTLD_NOW);
    REQUIRE(plugin, "dlmopen: %s", dlerror());
    void *p = ((get_function *)dlsym(plugin, "plugin_get"))(100);
    dprintf(1, "%p\n", p);
    free(p);
    dprintf(1, "was freed\n");
}

int main(int count, char **arguments)
{
    begin("deepbind");
    const char *way = count > 1 ? arguments[1] : "";
    if (strcmp(way, "cross") == 0) {
        namespaces();
        return finish();
    }
    void *keep = strcmp(way, "keep") == 0 ? arguments : NULL;
    cross(keep);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, cross, keep);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);

    CHECK(dlopen("no-such-library.so", RTLD_NOW | RTLD_DEEPBIND) == NULL, "what is not there not to be opened");
    const char *error = dlerror();
    CHECK(error && strstr(error, "no-such-library.so"), "dlerror to name it, got %s", error ? error : "nothing");
    CHECK(dlopen("deepbind-plugin.so", RTLD_DEEPBIND) == NULL, "dlopen without a mode to be refused");
    error = dlerror();
    CHECK(error && strstr(error, "invalid mode"), "dlerror to say that the mode is wrong, got %s", error ? error : "nothing");
    void *self = dlopen(NULL, RTLD_NOW);
    CHECK(self && dlsym(self, "whose") == (void *)whose, "dlopen(NULL) to be the program");
    return finish();
}
