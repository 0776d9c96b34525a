//! The types of shuttle: every operation is a point at which shuttle may let another thread run. All
//! orderings are `SeqCst`; weak memory is loom's.

pub use core::cell::{Cell, UnsafeCell};
pub use shuttle::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Whether a model checker runs this build.
pub const MODEL: bool = true;
/// A look more is a step more.
pub(super) const SPINS: u32 = 0;

/// What a lock guards.
pub(super) struct Guarded<T>(UnsafeCell<T>);

impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value, to read.
    pub(super) fn get(&self) -> *const T {
        self.0.get()
    }

    /// The value, to change.
    pub(super) fn get_mut(&self) -> *mut T {
        self.0.get()
    }
}
