//! What C programs call beside malloc: `include/kmem.h`, which `tests/header` generates from these files, and
//! `include/umem.h`.
//!
//! | file | what it exports |
//! |---|---|
//! | [`caches`] | `kmem_cache_*`: caches of objects of one size |
//! | [`accounts`] | `kmem_account_*`: limits in bytes over caches |
//! | [`memory`] | sizes, figures and release of memory |
//! | [`cpus`] | CPUs that come and go |
//! | [`umem`] | libumem's interface |
//! | `handles` | nothing: what the pointers to caches mean |
//!
//! # Input of every kind
//! A C program passes what it likes, so each function looks at what it is given before it uses it, and says by `errno`
//! what is wrong: a cache that does not exist (any more), a null pointer, a number out of range. A handle is a number
//! that is looked up, never an address that is read. An object is looked up in the page map before it is freed. What
//! cannot be seen is what malloc cannot see either: an object that is used after it was freed, and one that is freed
//! twice, which is reported when it returns to its slab.
//!
//! # Contexts
//! Each function may be called where malloc may: on any thread, with any locks of the program's held, in a child of
//! fork. None may be called in a signal handler. A constructor or destructor may call all of them, with any cache but
//! its own.

pub mod accounts;
pub mod caches;
pub mod cpus;
mod handles;
pub mod memory;
pub mod umem;

use core::ffi::c_int;

use crate::c::set_errno;

pub(crate) const EAGAIN: c_int = 11;
pub(crate) const ENOMEM: c_int = 12;
pub(crate) const EBUSY: c_int = 16;
pub(crate) const EEXIST: c_int = 17;
pub(crate) const EINVAL: c_int = 22;
pub(crate) const ENOSPC: c_int = 28;
pub(crate) const EDEADLK: c_int = 35;
pub(crate) const ENAMETOOLONG: c_int = 36;
pub(crate) const EDQUOT: c_int = 122;

/// What functions return that only succeed or fail: 0, or -1 with `errno`.
fn outcome(result: Result<(), c_int>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            set_errno(error);
            -1
        }
    }
}

/// Copies as much of `figures` as there is room for in the program's struct, which may be of an older header, and
/// clears what a newer one has more.
///
/// # Safety
/// `out` is null, or has room for `size` bytes.
unsafe fn copy_out<T: Copy>(figures: &T, out: *mut T, size: usize) -> Result<(), c_int> {
    if out.is_null() || !out.is_aligned() || size < size_of::<usize>() || size > isize::MAX as usize {
        return Err(EINVAL);
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise; `T` is a struct of numbers, without padding.
    unsafe {
        out.cast::<u8>().copy_from_nonoverlapping((&raw const *figures).cast(), known);
        out.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}
