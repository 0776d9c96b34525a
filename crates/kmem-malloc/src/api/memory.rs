//! Memory of any size: what there is to ask and to say beside malloc.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use kmem_linux::{general, info};

use super::{EDEADLK, copy_out, outcome};

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
