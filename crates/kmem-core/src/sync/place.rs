//! Atomics in memory that was mapped.
//!
//! The engine's tables are mappings: zero at first, and populated page by page as they are used. For the atomics of
//! `core`, zeroed memory is a value, so nothing has to be done, and a table of which little is used costs little. The
//! atomics of a model checker are registered with it one by one, and have to be made.

use core::ptr::NonNull;

use super::{AtomicU8, AtomicUsize, types};

/// A type made of atomics, all of which are zero at first.
///
/// # Safety
/// Without a model checker, zeroed memory is a value of this type, and the one that `zeroed` makes.
pub(crate) unsafe trait Zeroed {
    /// All zero.
    fn zeroed() -> Self;
}

// SAFETY: an atomic of `core` is represented as its integer is.
unsafe impl Zeroed for AtomicUsize {
    fn zeroed() -> Self {
        Self::new(0)
    }
}

// SAFETY: as above.
unsafe impl Zeroed for AtomicU8 {
    fn zeroed() -> Self {
        Self::new(0)
    }
}

/// Makes `count` values out of memory that is zero, or whose every value is stored before it is loaded: in an ordinary
/// build, by doing nothing.
///
/// # Safety
/// The memory is the caller's alone, aligned, and has room for `count` values.
#[inline(always)]
pub(crate) unsafe fn place_zeroed<T: Zeroed>(first: NonNull<T>, count: usize) {
    if types::MODEL {
        for index in 0..count {
            // SAFETY: there is room for `count` values.
            unsafe { first.add(index).write(T::zeroed()) };
        }
    }
}

/// Spoils memory that is freed to the engine's own arena, so that a model which uses it later fails. An ordinary build
/// does nothing.
///
/// # Safety
/// The memory is the caller's alone.
#[inline(always)]
pub(crate) unsafe fn spoil(piece: NonNull<u8>, bytes: usize) {
    if types::MODEL {
        // SAFETY: the caller's promise.
        unsafe { piece.write_bytes(0xa5, bytes) };
    }
}
