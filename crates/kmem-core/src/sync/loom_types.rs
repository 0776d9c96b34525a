//! The types of loom: every operation is a point at which loom may let another thread run, loads see any
//! value that the C11 order allows (but for `SeqCst`, which loom takes for `AcqRel`), and an access that nothing orders
//! behind the creation of an atomic, or behind another's access to what a lock guards, is an error.

pub use core::cell::{Cell, UnsafeCell};
pub use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Whether a model checker runs this build.
pub const MODEL: bool = true;
/// A look more is a schedule more.
pub(super) const SPINS: u32 = 0;

/// What a lock guards. Loom checks that each access comes behind those of other threads, so a lock that were too weak
/// is found.
pub(super) struct Guarded<T>(loom::cell::UnsafeCell<T>);

impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// The value, to read.
    pub(super) fn get(&self) -> *const T {
        self.0.with(|value| value)
    }

    /// The value, to change.
    pub(super) fn get_mut(&self) -> *mut T {
        self.0.with_mut(|value| value)
    }
}
