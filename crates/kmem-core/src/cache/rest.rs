//! Rest: a cache of which nothing is cached and nothing can be released is passed over by upkeep, until it is used.
//!
//! A process may have thousands of caches and use ten of them. Each period of decay would take three locks of each, to
//! find what it found the last time. So decay notes that a cache rests, if no slot of it is enabled and no later period
//! has anything to release; whatever adds to slots, depots or slabs wakes it. A cache with a destructor never rests:
//! decay leaves it alone, so what its depots hold is counted and reaped by others.
//!
//! The note must not be lost to a thread that adds something meanwhile:
//! ```text
//! decay                                        a thread that adds
//! 1. the cache rests                           1. adds, under the lock of the depot or of the slabs
//! 2. looks at depots and slabs, each with      2. does it rest? it wakes
//!    its lock
//! 3. something is left: it wakes
//! ```
//! If the thread's addition came before the look, decay sees it. If it came after, the lock has passed from decay to
//! the thread, which therefore sees that the cache rests. No lock is passed where a slot is enabled; there both sides
//! exchange the word, and one of them comes second and sees what the other has done before.

use crate::sync::{AtomicU32, Ordering};

/// Whether a cache rests.
pub(crate) struct Rest(AtomicU32);

impl Rest {
    /// A cache that was just made does not.
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether it rests. A hint, except in the order above.
    pub(crate) fn rests(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Notes that it rests, before the look.
    pub(crate) fn begin(&self) {
        self.0.swap(1, Ordering::AcqRel);
    }

    /// Something was added under a lock that decay takes too.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.rests() {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// A slot was enabled.
    pub(crate) fn wake_after_enabling(&self) {
        self.0.swap(0, Ordering::AcqRel);
    }
}
