/* What deepbind.c opens: it allocates and frees for its host, and calls a function that both have. */
#include <stdlib.h>

const char *whose(void);

void *plugin_get(size_t size)
{
    return malloc(size);
}

void plugin_drop(void *p)
{
    free(p);
}

const char *plugin_whose(void)
{
    return whose();
}

const char *whose(void)
{
    return "plugin";
}
