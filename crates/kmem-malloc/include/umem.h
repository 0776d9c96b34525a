/* umem.h: libumem's interface, served by kmem. A program that was written for the manual pages umem_alloc(3MALLOC) and
 * umem_cache_create(3MALLOC) compiles and links unchanged: see docs/c.md for the names of the library.
 */
#ifndef UMEM_H
#define UMEM_H

#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of an allocation: it may fail and return NULL; it never fails, but may end the program. */
#define UMEM_DEFAULT 0x0000
#define UMEM_NOFAIL 0x0100

/* Flags of a cache. They are hints to libumem, and mean nothing to kmem. */
#define UMC_NOTOUCH 0x00010000
#define UMC_NODEBUG 0x00020000
#define UMC_NOMAGAZINE 0x00040000
#define UMC_NOHASH 0x00080000

/* What a callback of umem_nofail_callback returns: try again; call exit with this status. */
#define UMEM_CALLBACK_RETRY 0
#define UMEM_CALLBACK_EXIT(status) (0x100 | ((status) & 0xff))

/* A cache, known by its handle alone. */
typedef struct umem_cache umem_cache_t;
/* There are no other sources of memory: this is always NULL. */
typedef struct vmem vmem_t;

/* Returns 0 if the object was made, which the flags say must be so or may fail. */
typedef int umem_constructor_t(void *object, void *callback_data, int flags);
typedef void umem_destructor_t(void *object, void *callback_data);
typedef void umem_reclaim_t(void *callback_data);
typedef int umem_nofail_callback_t(void);

/* Memory of any size, freed with its size. 0 bytes are NULL. */
void *umem_alloc(size_t size, int flags);
void *umem_zalloc(size_t size, int flags);
void *umem_alloc_align(size_t size, size_t align, int flags);
void umem_free(void *buffer, size_t size);
void umem_free_align(void *buffer, size_t size);

/* Sets what is called where an allocation with UMEM_NOFAIL fails. It may also leave by longjmp. */
void umem_nofail_callback(umem_nofail_callback_t *callback);

/* Caches of objects of one size. Returns NULL and sets errno: EINVAL, EAGAIN, ENOMEM. */
umem_cache_t *umem_cache_create(const char *debug_name, size_t size, size_t align, umem_constructor_t *constructor,
                                umem_destructor_t *destructor, umem_reclaim_t *reclaim, void *callback_data,
                                vmem_t *source, int flags);
void umem_cache_destroy(umem_cache_t *cache);
void *umem_cache_alloc(umem_cache_t *cache, int flags);
void umem_cache_free(umem_cache_t *cache, void *object);

#ifdef __cplusplus
}
#endif

#endif /* UMEM_H */
