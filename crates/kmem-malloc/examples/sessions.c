/* A cache of sessions: each has a lock, which is made once and stays made while the session is free. Prints what the
 * cache holds at three moments.
 *
 *     cc -I crates/kmem-malloc/include sessions.c -o sessions -L target/release -lkmem_malloc -pthread
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmem.h"

enum { SESSIONS = 500, BATCH = 50 };

struct session {
    pthread_mutex_t lock;
    char user[32];
    struct session *next;
};

static long locks_made, locks_ended;

static void make_session(void *object, void *context)
{
    (void)context;
    pthread_mutex_init(&((struct session *)object)->lock, NULL);
    __atomic_add_fetch(&locks_made, 1, __ATOMIC_RELAXED);
}

static void end_session(void *object, void *context)
{
    (void)context;
    pthread_mutex_destroy(&((struct session *)object)->lock);
    __atomic_add_fetch(&locks_ended, 1, __ATOMIC_RELAXED);
}

static void must(int succeeded, const char *what)
{
    if (!succeeded) {
        fprintf(stderr, "sessions: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void print(kmem_cache *cache, const char *when)
{
    kmem_cache_figures figures;
    must(kmem_cache_stats(cache, &figures, sizeof figures) == 0, "figures");
    printf("%-10s %4zu sessions in use, %zu slabs\n", when, figures.in_use, figures.slabs);
}

int main(void)
{
    kmem_cache *cache =
        kmem_cache_create("sessions", sizeof(struct session), 0, make_session, end_session, NULL);
    must(cache != NULL, "a cache");

    struct session *all = NULL;
    for (int i = 0; i < SESSIONS; i += BATCH) {
        void *batch[BATCH];
        must(kmem_cache_alloc_bulk(cache, BATCH, batch) == BATCH, "a batch of sessions");
        for (int j = 0; j < BATCH; j++) {
            struct session *session = batch[j];
            pthread_mutex_lock(&session->lock);
            snprintf(session->user, sizeof session->user, "user %d", i + j);
            session->next = all;
            all = session;
            /* As the next user finds it. */
            pthread_mutex_unlock(&session->lock);
        }
    }
    print(cache, "open:");

    /* A cache with objects in use stays. */
    must(kmem_cache_destroy(cache) == -1 && errno == EBUSY, "a refusal");
    while (all) {
        struct session *session = all;
        all = session->next;
        must(kmem_cache_free(cache, session) == 0, "a session to be freed");
    }
    print(cache, "closed:");

    must(kmem_cache_shrink(cache, NULL) == 0, "memory to be released");
    print(cache, "released:");
    must(kmem_cache_destroy(cache) == 0, "the cache to be destroyed");
    must(kmem_cache_alloc(cache) == NULL && errno == EINVAL, "its handle to name nothing");
    printf("every lock was ended: %s\n", locks_made == locks_ended ? "yes" : "no");
    return 0;
}
