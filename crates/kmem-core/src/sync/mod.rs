//! The only module that names atomics and cells. A model checker replaces the types here and nowhere else.
//!
//! Besides the primitive types it holds the one lock of the engine, [`Mutex`], which sleeps through the platform's
//! [`Park`](crate::platform::Park), and the [`Rank`] that every lock carries (I29).

mod mutex;
mod rank;

pub use core::cell::{Cell, UnsafeCell};
pub use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub use mutex::{Guard, Mutex};
pub use rank::{HeldRanks, Rank};
pub(crate) use rank::{hold, unhold};
