//! Caches of objects of one size.

use core::alloc::Layout;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::NonNull;

use kmem_core::cache::{ObjectFn, ObjectOps};
use kmem_core::{CreateError, Shortage, TuneError, Tuning};
use kmem_linux::{RawCache, existing};

use super::handles::{self, Kept, Kind, NoHandle, Record};
use super::{EBUSY, EDEADLK, EDQUOT, EEXIST, EINVAL, ENAMETOOLONG, ENOMEM, ENOSPC, copy_out, outcome};
use crate::c::{fail, set_errno};

/// A cache: memory for objects of one size. It is known by its handle alone, which is not the address of anything.
#[allow(non_camel_case_types)]
pub struct kmem_cache {
    _opaque: [u8; 0],
}

/// Makes an object in unused memory, or ends one: called with the object and the context that kmem_cache_create was
/// given. It must return: no exception and no longjmp may leave it.
#[allow(non_camel_case_types)]
pub type kmem_object_function = Option<unsafe extern "C" fn(object: *mut c_void, context: *mut c_void)>;

/// What a cache holds. Counts are objects unless they say otherwise.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kmem_cache_figures {
    /// Bytes of an object, as it was asked for.
    pub object_size: usize,
    /// Bytes from one object to the next.
    pub stride: usize,
    /// With the program.
    pub in_use: usize,
    /// Free, in the caches of CPUs and in depots.
    pub cached: usize,
    /// Free, on slabs.
    pub free: usize,
    /// Slabs.
    pub slabs: usize,
    /// Slabs without an object in use or cached.
    pub empty_slabs: usize,
    /// Bytes of all slabs.
    pub bytes: usize,
    /// CPUs that cache objects.
    pub cpus: usize,
    /// How many a CPU caches at most, when it begins to.
    pub limit: usize,
    /// How often objects were fetched from depot and slabs, a batch at a time.
    pub refills: usize,
    /// How often objects were returned there, a batch at a time.
    pub flushes: usize,
    /// Allocations that failed.
    pub failures: usize,
}

/// What `errno` says of a cache that has no object.
fn errno_of_shortage(shortage: Shortage) -> c_int {
    if shortage == Shortage::OverLimit { EDQUOT } else { ENOMEM }
}

/// What a cache's constructor and destructor are.
#[derive(Clone, Copy)]
struct Hooks {
    constructor: kmem_object_function,
    destructor: kmem_object_function,
    context: *mut c_void,
}

/// # Safety
/// The context is the address of hooks with a constructor.
unsafe fn construct(hooks: *mut (), object: *mut u8) {
    // SAFETY: the hooks live as long as the cache; the constructor's author promised to take any object.
    unsafe {
        let Hooks { constructor, context, .. } = *hooks.cast::<Hooks>();
        if let Some(constructor) = constructor {
            constructor(object.cast(), context);
        }
    }
}

/// # Safety
/// As for [`construct`].
unsafe fn destruct(hooks: *mut (), object: *mut u8) {
    // SAFETY: as in `construct`.
    unsafe {
        let Hooks { destructor, context, .. } = *hooks.cast::<Hooks>();
        if let Some(destructor) = destructor {
            destructor(object.cast(), context);
        }
    }
}

/// What `errno` says of a cache that was not created.
fn errno_of(error: CreateError) -> c_int {
    match error {
        CreateError::NameTooLong { .. } => ENAMETOOLONG,
        CreateError::NameTaken => EEXIST,
        CreateError::TooManyCaches { .. } => ENOSPC,
        CreateError::NoMemory => ENOMEM,
        CreateError::InsideCallback => EDEADLK,
        _ => EINVAL,
    }
}

/// Size and alignment of objects; 0 is the alignment of any type of such a size.
pub(super) fn layout(size: usize, align: usize) -> Result<Layout, c_int> {
    let align = match (align, size) {
        (0, ..16) => 8,
        (0, _) => 16,
        _ => align,
    };
    Layout::from_size_align(size, align).map_err(|_| EINVAL)
}

/// # Safety
/// As for [`handles::find`].
#[inline]
unsafe fn find<'a>(cache: *const kmem_cache) -> Option<&'a Record<Hooks>> {
    // SAFETY: handles of this kind have these hooks; the rest is passed on.
    unsafe { handles::find(Kind::Kmem, cache as usize) }
}

/// # Safety
/// As for [`handles::find`].
pub(super) unsafe fn found<'a>(cache: *const kmem_cache) -> Result<&'a RawCache, c_int> {
    // SAFETY: passed on.
    unsafe { find(cache) }.map(Record::cache).ok_or(EINVAL)
}

/// # Safety
/// As for [`kmem_cache_create`].
unsafe fn create(name: *const c_char, layout: Layout, hooks: Hooks) -> Result<usize, c_int> {
    if name.is_null() || (hooks.constructor.is_none() && hooks.destructor.is_some()) {
        return Err(EINVAL);
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| EINVAL)?;
    let make = |address: *mut Hooks| {
        let destruct = hooks.destructor.map(|_| destruct as ObjectFn);
        // SAFETY: the hooks stay at the address as long as the cache; the caller's constructor may be called by any
        // thread, and so may the destructor.
        let ops = hooks.constructor.map(|_| unsafe { ObjectOps::new(address.cast(), construct, destruct) });
        // The record was allocated, so the engine exists.
        RawCache::with_ops(existing().ok_or(CreateError::NoMemory)?, name, layout, ops)
    };
    // SAFETY: handles of this kind have these hooks.
    unsafe { handles::create(Kind::Kmem, hooks, make) }.map_err(|error| match error {
        NoHandle::Memory => ENOMEM,
        NoHandle::TooMany => ENOSPC,
        NoHandle::Refused(error) => errno_of(error),
    })
}

/// Creates a cache of objects of `size` bytes (1 to 4 MiB) at multiples of `align` bytes: a power of two up to 64 KiB,
/// or 0 for 16 (for 8, if objects are smaller than 16). The name is UTF-8, has 1 to 63 bytes, and is no other cache's;
/// it is copied.
///
/// With a constructor objects stay constructed between uses: it is called with `context` when an object is handed out
/// whose memory was not one, and the destructor (which may be NULL) before that memory is used otherwise. Both run
/// without a lock, on a thread that called into kmem; a cache with a constructor needs its context until it is
/// destroyed.
///
/// Returns NULL, and nothing of the cache is left, with errno: EINVAL for a name, size or alignment that is none of
/// these, or a destructor without a constructor; ENAMETOOLONG; EEXIST if another cache has the name; ENOSPC if there
/// are 16,384 caches; ENOMEM.
///
/// # Safety
/// The name is NULL or a string. Constructor and destructor are as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_create(
    name: *const c_char,
    size: usize,
    align: usize,
    constructor: kmem_object_function,
    destructor: kmem_object_function,
    context: *mut c_void,
) -> *mut kmem_cache {
    let hooks = Hooks { constructor, destructor, context };
    // SAFETY: passed on.
    match layout(size, align).and_then(|layout| unsafe { create(name, layout, hooks) }) {
        Ok(handle) => handle as *mut kmem_cache,
        Err(error) => fail(error).cast(),
    }
}

/// Destroys a cache of which no object is in use. From its beginning on no other thread may use the cache.
///
/// Returns 0, or -1 with errno: EBUSY if objects are in use, and then the cache is as it was; EINVAL if there is no
/// such cache (it was destroyed, or is being destroyed); EDEADLK inside its own destructor.
///
/// # Safety
/// No other thread uses the cache.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_destroy(cache: *mut kmem_cache) -> c_int {
    // SAFETY: passed on.
    outcome(unsafe { handles::destroy::<Hooks>(Kind::Kmem, cache as usize) }.map_err(|kept| match kept {
        Kept::NoSuchCache => EINVAL,
        Kept::InUse => EBUSY,
        Kept::InsideCallback => EDEADLK,
    }))
}

/// Takes an object. What is in it is not defined, unless the cache has a constructor. O(1), and without a lock where
/// the CPU has one cached.
///
/// Returns NULL with errno: ENOMEM; EDQUOT if the cache's account is full; EINVAL if there is no such cache.
///
/// # Safety
/// No other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_alloc(cache: *mut kmem_cache) -> *mut c_void {
    // SAFETY: passed on.
    match unsafe { find(cache) } {
        Some(record) => match record.cache().alloc() {
            Ok(object) => object.as_ptr().cast(),
            Err(shortage) => fail(errno_of_shortage(shortage)),
        },
        None => fail(EINVAL),
    }
}

/// The same of a slab that is densely used: the new place of an object that is worth moving (kmem_worth_moving). Takes
/// locks.
///
/// # Safety
/// As for kmem_cache_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_alloc_packed(cache: *mut kmem_cache) -> *mut c_void {
    // SAFETY: passed on.
    let object = unsafe { found(cache).and_then(|cache| cache.handle().alloc_packed().map_err(errno_of_shortage)) };
    object.map_or_else(fail, |object| object.as_ptr().cast())
}

/// Frees an object, on any thread. NULL is no object, and nothing happens.
///
/// Returns 0, or -1 with errno, and frees nothing: EINVAL if there is no such cache, or the address is not that of an
/// object of it. An object that is free already is not always noticed; where it is, the program ends with a message, as
/// with free.
///
/// # Safety
/// If the address is that of an object, that is the caller's and not used afterwards. No other thread destroys the
/// cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_free(cache: *mut kmem_cache, object: *mut c_void) -> c_int {
    // SAFETY: passed on; the object is the cache's.
    unsafe {
        let Some(record) = find(cache) else { return outcome(Err(EINVAL)) };
        let Some(object) = NonNull::new(object.cast::<u8>()) else { return 0 };
        let handle = record.cache().handle();
        if !handle.owns(object) {
            return outcome(Err(EINVAL));
        }
        handle.free(object);
    }
    0
}

/// The places of a bulk, if there can be so many.
///
/// # Safety
/// `objects` is NULL or has room for `count` pointers, which are the caller's.
unsafe fn places<'a>(objects: *mut *mut c_void, count: usize) -> Option<&'a mut [usize]> {
    let objects = objects.cast::<usize>();
    if count == 0 {
        return Some(&mut []);
    }
    let is_possible = !objects.is_null() && objects.is_aligned() && count <= isize::MAX as usize / size_of::<usize>();
    // SAFETY: the caller's promise; a pointer is as long as a word.
    is_possible.then(|| unsafe { core::slice::from_raw_parts_mut(objects, count) })
}

/// Takes `count` objects into the array `objects`: faster than one by one.
///
/// Returns how many it took. If these are fewer, errno says why: ENOMEM, or EDQUOT if the cache's account is full
/// (those that it took are the caller's); EINVAL if there is no such cache or no array.
///
/// # Safety
/// The array has room for so many, or is NULL. No other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_alloc_bulk(
    cache: *mut kmem_cache,
    count: usize,
    objects: *mut *mut c_void,
) -> usize {
    // SAFETY: passed on.
    let (Some(record), Some(places)) = (unsafe { find(cache) }, unsafe { places(objects, count) }) else {
        set_errno(EINVAL);
        return 0;
    };
    // SAFETY: what a failed allocation leaves in the array must not look like objects; the cache lives.
    let taken = unsafe {
        places.fill(0);
        record.cache().handle().alloc_bulk(places)
    };
    if taken < count {
        // SAFETY: the cache lives.
        set_errno(errno_of_shortage(unsafe { record.cache().handle().shortage() }));
    }
    taken
}

/// Frees the `count` objects of the array `objects`, on any thread.
///
/// Returns 0, or -1 with errno, and frees none of them: EINVAL if there is no such cache or no array, or one of the
/// addresses is not that of an object of the cache.
///
/// # Safety
/// As for kmem_cache_free, for each of them; they are different objects.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_free_bulk(
    cache: *mut kmem_cache,
    count: usize,
    objects: *mut *mut c_void,
) -> c_int {
    // SAFETY: passed on.
    let (Some(record), Some(places)) = (unsafe { find(cache) }, unsafe { places(objects, count) }) else {
        return outcome(Err(EINVAL));
    };
    let handle = record.cache().handle();
    // SAFETY: as in `kmem_cache_free`.
    unsafe {
        if !places.iter().all(|object| NonNull::new(*object as *mut u8).is_some_and(|object| handle.owns(object))) {
            return outcome(Err(EINVAL));
        }
        handle.free_bulk(places);
    }
    0
}

/// Releases all memory of a cache that no object in use needs, and stores how many bytes, unless `released` is NULL.
///
/// Returns 0, or -1 with errno: EINVAL if there is no such cache; EDEADLK inside a hotplug callback.
///
/// # Safety
/// `released` is NULL or the address of a number. No other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_shrink(cache: *mut kmem_cache, released: *mut usize) -> c_int {
    // SAFETY: passed on.
    let bytes = unsafe { found(cache) }.and_then(|cache| cache.shrink().map_err(|_| EDEADLK));
    // SAFETY: the caller's promise.
    outcome(bytes.map(|bytes| unsafe { released.as_mut() }.map_or((), |released| *released = bytes)))
}

/// For kmem_cache_tune: stays as it is. (The generator writes it by hand: SIZE_MAX.)
pub const KMEM_UNCHANGED: usize = usize::MAX;

/// Sets how many objects of a cache each CPU caches (`limit`, 1 to 2,047 and at most 256 KiB of them), how many move at
/// a time between a CPU and depot or slabs (`batch`, 1 to `limit`), and how many full magazines the depot of each node
/// holds (`depot`, 0 to 256): now and later. KMEM_UNCHANGED leaves one as it is. Costs an interruption of each CPU that
/// caches objects of it.
///
/// Returns 0, or -1 with errno, and changes nothing: EINVAL if there is no such cache or a number is out of its range;
/// EDEADLK inside a hotplug callback.
///
/// # Safety
/// No other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_tune(cache: *mut kmem_cache, limit: usize, batch: usize, depot: usize) -> c_int {
    let given = |number: usize| (number != KMEM_UNCHANGED).then_some(number);
    let tuning = Tuning { limit: given(limit), batch: given(batch), depot: given(depot) };
    // SAFETY: passed on.
    let tuned = unsafe { found(cache) }.and_then(|cache| {
        cache.tune(tuning).map_err(|error| if error == TuneError::InsideCallback { EDEADLK } else { EINVAL })
    });
    outcome(tuned)
}

/// Stores what a cache holds at this moment. `size` is sizeof(struct kmem_cache_figures): a program that was compiled
/// with an older header gets what it knows, and one with a newer header finds 0 in what this library does not know.
///
/// Returns 0, or -1 with errno: EINVAL if there is no such cache, or no struct.
///
/// # Safety
/// `figures` is NULL or has `size` bytes. No other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_stats(
    cache: *mut kmem_cache,
    figures: *mut kmem_cache_figures,
    size: usize,
) -> c_int {
    // SAFETY: passed on.
    let stats = unsafe { found(cache) }.map(RawCache::stats);
    outcome(stats.and_then(|stats| {
        let known = kmem_cache_figures {
            object_size: stats.object_size,
            stride: stats.stride,
            in_use: stats.live,
            cached: stats.in_slots + stats.in_depot,
            free: stats.free,
            slabs: stats.slabs,
            empty_slabs: stats.empty_slabs,
            bytes: stats.bytes,
            cpus: stats.cpus,
            limit: stats.capacity,
            refills: stats.refills,
            flushes: stats.flushes,
            failures: stats.failures,
        };
        // SAFETY: the caller's promise.
        unsafe { copy_out(&known, figures, size) }
    }))
}
