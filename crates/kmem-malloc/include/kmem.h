/* kmem.h: what the allocator kmem offers to C programs beside malloc. Link with -lkmem_malloc, or with
 * libkmem_malloc.a; docs/c.md has examples. Generated from the library's sources: edit those.
 *
 * A function that fails says why by errno. A handle of a cache that is gone, a null pointer, an address that is not an
 * object's: each is refused with EINVAL, except where a comment says otherwise. Each function may be called where malloc
 * may be called, and none in a signal handler. None takes more than 2,048 bytes of its caller's stack,
 * beside what constructors and destructors take.
 */

#ifndef KMEM_H
#define KMEM_H

#include <stddef.h>
#include <stdint.h>

/** For kmem_cache_tune: stays as it is. */
#define KMEM_UNCHANGED SIZE_MAX

/**
 * An account: a limit in bytes over one cache, or over several. It is known by its handle alone, which is not the
 * address of anything.
 */
typedef struct kmem_account kmem_account;

/**
 * A cache: memory for objects of one size. It is known by its handle alone, which is not the address of anything.
 */
typedef struct kmem_cache kmem_cache;

/**
 * Makes an object in unused memory, or ends one: called with the object and the context that kmem_cache_create was
 * given. It must return: no exception and no longjmp may leave it.
 */
typedef void (*kmem_object_function)(void *object, void *context);

/**
 * What a cache holds. Counts are objects unless they say otherwise.
 */
typedef struct kmem_cache_figures {
  /**
   * Bytes of an object, as it was asked for.
   */
  size_t object_size;
  /**
   * Bytes from one object to the next.
   */
  size_t stride;
  /**
   * With the program.
   */
  size_t in_use;
  /**
   * Free, in the caches of CPUs and in depots.
   */
  size_t cached;
  /**
   * Free, on slabs.
   */
  size_t free;
  /**
   * Slabs.
   */
  size_t slabs;
  /**
   * Slabs without an object in use or cached.
   */
  size_t empty_slabs;
  /**
   * Bytes of all slabs.
   */
  size_t bytes;
  /**
   * CPUs that cache objects.
   */
  size_t cpus;
  /**
   * How many a CPU caches at most, when it begins to.
   */
  size_t limit;
  /**
   * How often objects were fetched from depot and slabs, a batch at a time.
   */
  size_t refills;
  /**
   * How often objects were returned there, a batch at a time.
   */
  size_t flushes;
  /**
   * Allocations that failed.
   */
  size_t failures;
} kmem_cache_figures;

/**
 * Makes room in an account that is full: frees objects, or raises the limit. It may allocate; where it reaches a limit
 * itself it is not called again, and that allocation fails. It runs on the thread that allocates, with no lock of
 * kmem's held, on several threads at a time. It is called with the bytes that the allocation needs, those that are
 * charged, the limit, and the context that kmem_account_create was given. It returns whether another attempt is worth
 * it: 0 if not. It must return: no exception and no longjmp may leave it.
 */
typedef int (*kmem_over_limit_function)(size_t wanted, size_t used, size_t limit, void *context);

/**
 * What an account holds, in bytes unless it says otherwise.
 */
typedef struct kmem_account_figures {
  /**
   * What may be charged; SIZE_MAX is no limit.
   */
  size_t limit;
  /**
   * What is charged.
   */
  size_t used;
  /**
   * The most that ever was.
   */
  size_t high;
  /**
   * Allocations that failed because of it.
   */
  size_t refused;
} kmem_account_figures;

/**
 * What the memory of the process is used for, in bytes. Figures of different places are of slightly different moments.
 */
typedef struct kmem_memory_figures {
  /**
   * Objects of caches that the program holds, those of malloc up to 256 KiB among them.
   */
  size_t in_use;
  /**
   * Free objects in the caches of CPUs and in depots.
   */
  size_t cached;
  /**
   * Free objects on slabs. Of these, whole pages may have been released.
   */
  size_t free;
  /**
   * All slabs.
   */
  size_t slabs;
  /**
   * Blocks that are larger than objects of caches.
   */
  size_t large;
  /**
   * Free runs of pages that still hold memory.
   */
  size_t idle;
  /**
   * Address space for objects that is usable now, whether it holds memory or not.
   */
  size_t committed;
  /**
   * The allocator's own tables.
   */
  size_t own;
} kmem_memory_figures;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Creates a cache of objects of `size` bytes (1 to 4 MiB) at multiples of `align` bytes: a power of two up to 64 KiB,
 * or 0 for 16 (for 8, if objects are smaller than 16). The name is UTF-8, has 1 to 63 bytes, and is no other cache's;
 * it is copied.
 *
 * With a constructor objects stay constructed between uses: it is called with `context` when an object is handed out
 * whose memory was not one, and the destructor (which may be NULL) before that memory is used otherwise. Both run
 * without a lock, on a thread that called into kmem; a cache with a constructor needs its context until it is
 * destroyed.
 *
 * Returns NULL, and nothing of the cache is left, with errno: EINVAL for a name, size or alignment that is none of
 * these, or a destructor without a constructor; ENAMETOOLONG; EEXIST if another cache has the name; ENOSPC if there
 * are 16,384 caches; ENOMEM.
 *
 * The caller's part:
 * The name is NULL or a string. Constructor and destructor are as said.
 */
struct kmem_cache *kmem_cache_create(const char *name,
                                     size_t size,
                                     size_t align,
                                     kmem_object_function constructor,
                                     kmem_object_function destructor,
                                     void *context);

/**
 * Destroys a cache of which no object is in use. From its beginning on no other thread may use the cache.
 *
 * Returns 0, or -1 with errno: EBUSY if objects are in use, and then the cache is as it was; EINVAL if there is no
 * such cache (it was destroyed, or is being destroyed); EDEADLK inside its own destructor.
 *
 * The caller's part:
 * No other thread uses the cache.
 */
int kmem_cache_destroy(struct kmem_cache *cache);

/**
 * Takes an object. What is in it is not defined, unless the cache has a constructor. O(1), and without a lock where
 * the CPU has one cached.
 *
 * Returns NULL with errno: ENOMEM; EDQUOT if the cache's account is full; EINVAL if there is no such cache.
 *
 * The caller's part:
 * No other thread destroys the cache meanwhile.
 */
void *kmem_cache_alloc(struct kmem_cache *cache);

/**
 * The same of a slab that is densely used: the new place of an object that is worth moving (kmem_worth_moving). Takes
 * locks.
 *
 * The caller's part:
 * As for kmem_cache_alloc.
 */
void *kmem_cache_alloc_packed(struct kmem_cache *cache);

/**
 * Frees an object, on any thread. NULL is no object, and nothing happens.
 *
 * Returns 0, or -1 with errno, and frees nothing: EINVAL if there is no such cache, or the address is not that of an
 * object of it. An object that is free already is not always noticed; where it is, the program ends with a message, as
 * with free.
 *
 * The caller's part:
 * If the address is that of an object, that is the caller's and not used afterwards. No other thread destroys the
 * cache meanwhile.
 */
int kmem_cache_free(struct kmem_cache *cache, void *object);

/**
 * Takes `count` objects into the array `objects`: faster than one by one.
 *
 * Returns how many it took. If these are fewer, errno says why: ENOMEM, or EDQUOT if the cache's account is full
 * (those that it took are the caller's); EINVAL if there is no such cache or no array.
 *
 * The caller's part:
 * The array has room for so many, or is NULL. No other thread destroys the cache meanwhile.
 */
size_t kmem_cache_alloc_bulk(struct kmem_cache *cache, size_t count, void **objects);

/**
 * Frees the `count` objects of the array `objects`, on any thread.
 *
 * Returns 0, or -1 with errno, and frees none of them: EINVAL if there is no such cache or no array, or one of the
 * addresses is not that of an object of the cache.
 *
 * The caller's part:
 * As for kmem_cache_free, for each of them; they are different objects.
 */
int kmem_cache_free_bulk(struct kmem_cache *cache, size_t count, void **objects);

/**
 * Releases all memory of a cache that no object in use needs, and stores how many bytes, unless `released` is NULL.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no such cache; EDEADLK inside a hotplug callback.
 *
 * The caller's part:
 * `released` is NULL or the address of a number. No other thread destroys the cache meanwhile.
 */
int kmem_cache_shrink(struct kmem_cache *cache, size_t *released);

/**
 * Sets how many objects of a cache each CPU caches (`limit`, 1 to 2,047 and at most 256 KiB of them), how many move at
 * a time between a CPU and depot or slabs (`batch`, 1 to `limit`), and how many full magazines the depot of each node
 * holds (`depot`, 0 to 256): now and later. KMEM_UNCHANGED leaves one as it is. Costs an interruption of each CPU that
 * caches objects of it.
 *
 * Returns 0, or -1 with errno, and changes nothing: EINVAL if there is no such cache or a number is out of its range;
 * EDEADLK inside a hotplug callback.
 *
 * The caller's part:
 * No other thread destroys the cache meanwhile.
 */
int kmem_cache_tune(struct kmem_cache *cache, size_t limit, size_t batch, size_t depot);

/**
 * Stores what a cache holds at this moment. `size` is sizeof(struct kmem_cache_figures): a program that was compiled
 * with an older header gets what it knows, and one with a newer header finds 0 in what this library does not know.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no such cache, or no struct.
 *
 * The caller's part:
 * `figures` is NULL or has `size` bytes. No other thread destroys the cache meanwhile.
 */
int kmem_cache_stats(struct kmem_cache *cache, struct kmem_cache_figures *figures, size_t size);

/**
 * Makes an account with a limit of so many bytes (SIZE_MAX: without). The name is UTF-8, has 1 to 63 bytes, and is no
 * other account's; it is copied. Whatever is charged to it is charged to `parent` too, unless that is NULL.
 *
 * `over_limit`, unless it is NULL, is called with `context` before an allocation fails because this account is full.
 * Both are needed as long as there is the account: see kmem_account_destroy.
 *
 * Returns NULL with errno: EINVAL for a name that is none or a parent that does not exist; ENAMETOOLONG; EEXIST;
 * ENOSPC if there are 1,024 handles; ENOMEM.
 *
 * The caller's part:
 * The name is NULL or a string. The function is as said. No other thread destroys the parent meanwhile.
 */
struct kmem_account *kmem_account_create(const char *name,
                                         size_t limit,
                                         struct kmem_account *parent,
                                         kmem_over_limit_function over_limit,
                                         void *context);

/**
 * Gives up a handle. The account itself lives as long as a cache is charged to it, or an account is within it.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no such account.
 *
 * The caller's part:
 * No other thread uses the handle.
 */
int kmem_account_destroy(struct kmem_account *account);

/**
 * Sets the limit of an account; SIZE_MAX is none. If more is charged, what CPUs and depots cache returns to slabs at
 * once; what the program holds stays its own, and allocations fail until enough of it is freed.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no such account.
 *
 * The caller's part:
 * No other thread destroys the handle meanwhile.
 */
int kmem_account_set_limit(struct kmem_account *account, size_t limit);

/**
 * Stores what an account holds at this moment. `size` is sizeof(struct kmem_account_figures), as for kmem_cache_stats.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no such account, or no struct.
 *
 * The caller's part:
 * `figures` is NULL or has `size` bytes. No other thread destroys the handle meanwhile.
 */
int kmem_account_stats(struct kmem_account *account, struct kmem_account_figures *figures, size_t size);

/**
 * Charges a new cache, of which no object was taken so far, to an account, until the cache is destroyed: the objects
 * that the program holds, and those that CPUs and depots cache.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no such cache or account; EBUSY if an object was taken already, or
 * the cache is charged to an account.
 *
 * The caller's part:
 * No other thread uses the cache, nor destroys the handle of the account meanwhile.
 */
int kmem_cache_charge(struct kmem_cache *cache, struct kmem_account *account);

/**
 * Bytes usable at an address that malloc, a cache or one of their kin returned: at least as many as were asked for.
 * Any address may be asked about; of one that is not the beginning of anything that kmem handed out it returns 0. With
 * hardened memory (KMEM_SECURE=1) the program ends there.
 */
size_t kmem_usable_size(const void *address);

/**
 * Whether moving what is at an address (memory of malloc, or an object of a cache) helps to empty a slab, so that its
 * memory can be released: 1, or 0. It helps if the slab has fewer objects in use than those of its cache have on
 * average, and all of them fit into the others. O(1), but takes a lock. 0 for large blocks, for what is not kmem's,
 * and where memory is checked.
 *
 * To move it: take memory by kmem_alloc_packed, copy, free the old place by kmem_free_packed, and change the pointers
 * to it. Call it for each object that can be moved, in any order, again and again, until few are worth it.
 *
 * The caller's part:
 * The memory is the caller's, or none of kmem's: not freed before or meanwhile.
 */
int kmem_worth_moving(const void *address);

/**
 * As malloc, but the memory is on a slab that is densely used: the new place of what is worth moving. Takes locks, so
 * it costs more than malloc.
 *
 * Returns NULL with errno: ENOMEM.
 */
void *kmem_alloc_packed(size_t size);

/**
 * As free, but the memory is free on its slab at once: for the old place of what was moved. Frees objects of caches
 * too. NULL is no memory, and nothing happens.
 *
 * The caller's part:
 * As for free.
 */
void kmem_free_packed(void *address);

/**
 * Releases to the system all memory that nothing in use needs: cached objects of all caches, empty slabs, free pages.
 * Stores how many bytes, unless `released` is NULL. Takes milliseconds; an ordinary process need not call it, because
 * upkeep releases what was idle for a while.
 *
 * Returns 0, or -1 with errno: EDEADLK inside a hotplug callback.
 *
 * The caller's part:
 * `released` is NULL or the address of a number.
 */
int kmem_release_memory(size_t *released);

/**
 * Stores what memory is used for now. `size` is sizeof(struct kmem_memory_figures), as with kmem_cache_stats.
 *
 * Returns 0, or -1 with errno: EINVAL if there is no struct.
 *
 * The caller's part:
 * `figures` is NULL or has `size` bytes.
 */
int kmem_memory_stats(struct kmem_memory_figures *figures, size_t size);

/**
 * Numbers of CPUs are below this; not all of them need exist.
 */
size_t kmem_cpus_possible(void);

/**
 * 1 if objects may be cached on a CPU at this moment, or else 0: it is down, or does not exist.
 */
int kmem_cpu_is_online(size_t cpu);

/**
 * Says whether kmem follows the CPUs that the process may run on (1, which is so at first) or leaves them as they are
 * (0), for a program that drives them by kmem_cpu_down and kmem_cpu_up. Followed CPUs that leave are taken down within
 * a second, and what idle ones cache is released. Returns what was so before, or -1 with errno: EINVAL for another
 * number.
 */
int kmem_cpus_follow(int follow);

/**
 * Takes a CPU out of use, until kmem_cpu_up: what is cached there goes to the depots, and threads that still run there
 * are served from these.
 *
 * Returns 0, or -1 with errno, and the CPU is as it was: EINVAL if there is no such CPU; EBUSY if it is down already,
 * is the last one, or a listener refused; EDEADLK inside a hotplug callback.
 */
int kmem_cpu_down(size_t cpu);

/**
 * Brings a CPU up that was taken down.
 *
 * Returns 0, or -1 with errno, and the CPU is as it was: EINVAL if there is no such CPU; EBUSY if it is up already, or
 * a listener refused; ENOMEM; EDEADLK inside a hotplug callback.
 */
int kmem_cpu_up(size_t cpu);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KMEM_H */
