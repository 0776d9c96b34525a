//! The types of an ordinary build: those of `core`.

pub use core::cell::{Cell, UnsafeCell};
pub use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Whether a model checker runs this build.
pub const MODEL: bool = false;
/// Looks at a lock before sleeping: a holder on another CPU is usually done within a microsecond.
pub(super) const SPINS: u32 = 100;

/// What a lock guards.
pub(super) struct Guarded<T>(UnsafeCell<T>);

impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value, to read.
    #[inline(always)]
    pub(super) fn get(&self) -> *const T {
        self.0.get()
    }

    /// The value, to change.
    #[inline(always)]
    pub(super) fn get_mut(&self) -> *mut T {
        self.0.get()
    }
}
