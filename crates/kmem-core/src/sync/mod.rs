//! The only module that names atomics and cells. A model checker replaces the types here and nowhere else: `types` is
//! the file of the build's checker, if any.
//!
//! | build | types |
//! |---|---|
//! | ordinary | `core_types.rs`: those of `core` |
//! | `cfg(kmem_loom)` | `loom_types.rs`: all schedules of a small model, weak memory included |
//! | `cfg(kmem_shuttle)` | `shuttle_types.rs`: many schedules of a large one |
//!
//! Besides the primitive types it holds the one lock of the engine, [`Mutex`], which sleeps through the platform's
//! [`Park`], the [`Rank`] that every lock carries (I29), and what a fork does with locks (`Forker`).

pub(crate) mod fork;
pub(crate) mod mutex;
mod park;
mod place;
mod rank;
mod waiters;
mod word;

#[cfg_attr(kmem_loom, path = "loom_types.rs")]
#[cfg_attr(kmem_shuttle, path = "shuttle_types.rs")]
#[cfg_attr(not(any(kmem_loom, kmem_shuttle)), path = "core_types.rs")]
mod types;

pub(crate) use fork::Forker;
pub use fork::OtherFirst;
pub(crate) use mutex::{Guard, Mutex};
pub use park::{LockStep, Park};
pub(crate) use place::{Zeroed, place_zeroed, spoil};
pub use rank::{HeldRanks, Rank};
pub(crate) use rank::{OfThread, hold, unhold};
pub use types::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Cell, MODEL, Ordering, UnsafeCell, fence};
pub(crate) use waiters::sleep;
pub use waiters::{Note, Waiters, Why};
pub use word::{Word, owner};
