//! Memory of any size: what there is to ask and to say beside malloc.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use kmem_core::AllocError;
use kmem_linux::{general, info};

use super::{EDEADLK, ENOMEM, copy_out, outcome};
use crate::c::fail;

/// What the memory of the process is used for, in bytes. Figures of different places are of slightly different moments.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kmem_memory_figures {
    /// Objects of caches that the program holds, those of malloc up to 256 KiB among them.
    pub in_use: usize,
    /// Free objects in the caches of CPUs and in depots.
    pub cached: usize,
    /// Free objects on slabs. Of these, whole pages may have been released.
    pub free: usize,
    /// All slabs.
    pub slabs: usize,
    /// Blocks that are larger than objects of caches.
    pub large: usize,
    /// Free runs of pages that still hold memory.
    pub idle: usize,
    /// Address space for objects that is usable now, whether it holds memory or not.
    pub committed: usize,
    /// The allocator's own tables.
    pub own: usize,
}

/// Bytes usable at an address that malloc, a cache or one of their kin returned: at least as many as were asked for.
/// Any address may be asked about; of one that is not the beginning of anything that kmem handed out it returns 0. With
/// hardened memory (KMEM_SECURE=1) the program ends there.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_usable_size(address: *const c_void) -> usize {
    NonNull::new(address.cast_mut().cast()).map_or(0, general::usable_size)
}

/// Whether moving what is at an address (memory of malloc, or an object of a cache) helps to empty a slab, so that its
/// memory can be released: 1, or 0. It helps if the slab has fewer objects in use than those of its cache have on
/// average, and all of them fit into the others. O(1), but takes a lock. 0 for large blocks, for what is not kmem's,
/// and where memory is checked.
///
/// To move it: take memory by kmem_alloc_packed, copy, free the old place by kmem_free_packed, and change the pointers
/// to it. Call it for each object that can be moved, in any order, again and again, until few are worth it.
///
/// # Safety
/// The memory is the caller's, or none of kmem's: not freed before or meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_worth_moving(address: *const c_void) -> c_int {
    // SAFETY: passed on.
    c_int::from(
        NonNull::new(address.cast_mut().cast()).is_some_and(|address| unsafe { general::worth_moving(address) }),
    )
}

/// As malloc, but the memory is on a slab that is densely used: the new place of what is worth moving. Takes locks, so
/// it costs more than malloc.
///
/// Returns NULL with errno: ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_alloc_packed(size: usize) -> *mut c_void {
    let memory = if size > isize::MAX as usize { Err(AllocError) } else { general::alloc_packed(size) };
    memory.map_or_else(|_| fail(ENOMEM), |address| address.as_ptr().cast())
}

/// As free, but the memory is free on its slab at once: for the old place of what was moved. Frees objects of caches
/// too. NULL is no memory, and nothing happens.
///
/// # Safety
/// As for free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_free_packed(address: *mut c_void) {
    if let Some(address) = NonNull::new(address.cast()) {
        // SAFETY: passed on.
        unsafe { general::free_packed(address) }
    }
}

/// Releases to the system all memory that nothing in use needs: cached objects of all caches, empty slabs, free pages.
/// Stores how many bytes, unless `released` is NULL. Takes milliseconds; an ordinary process need not call it, because
/// upkeep releases what was idle for a while.
///
/// Returns 0, or -1 with errno: EDEADLK inside a hotplug callback.
///
/// # Safety
/// `released` is NULL or the address of a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_release_memory(released: *mut usize) -> c_int {
    let bytes = info::trim().map_err(|_| EDEADLK);
    // SAFETY: the caller's promise.
    outcome(bytes.map(|bytes| unsafe { released.as_mut() }.map_or((), |released| *released = bytes)))
}

/// Stores what memory is used for now. `size` is sizeof(struct kmem_memory_figures), as with kmem_cache_stats.
///
/// Returns 0, or -1 with errno: EINVAL if there is no struct.
///
/// # Safety
/// `figures` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_memory_stats(figures: *mut kmem_memory_figures, size: usize) -> c_int {
    let memory = kmem_linux::memory::memory();
    let known = kmem_memory_figures {
        in_use: memory.in_use,
        cached: memory.cached,
        free: memory.free,
        slabs: memory.slabs,
        large: memory.large,
        idle: memory.idle,
        committed: memory.committed,
        own: memory.own,
    };
    // SAFETY: the caller's promise.
    outcome(unsafe { copy_out(&known, figures, size) })
}
