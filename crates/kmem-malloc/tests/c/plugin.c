/* A shared object that allocates when it comes and frees when it goes. lifecycle.c is linked against one copy of it, whose
 * constructor runs before anything of the preloaded library may have been initialised, and loads and unloads another.
 */
#include <stdlib.h>
#include <string.h>

enum { HELD = 50 };
static char *held[HELD];

__attribute__((constructor)) static void comes(void)
{
    for (int i = 0; i < HELD; i++) {
        held[i] = (char *)(i % 2 ? malloc((size_t)i * 100 + 1) : calloc((size_t)i + 1, 40));
        if (!held[i])
            abort();
        memset(held[i], i, 40 < i * 100 + 1 || i % 2 == 0 ? 40 : 1);
    }
}

__attribute__((destructor)) static void goes(void)
{
    for (int i = 0; i < HELD; i++) {
        if (held[i][0] != i)
            abort();
        free(held[i]);
    }
}

/* A copy of `text` that the caller frees, perhaps when this object is gone already. */
char *plugin_copy(const char *text)
{
    char *copy = (char *)malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

/* Frees what the caller allocated. */
void plugin_free(void *p)
{
    free(p);
}
