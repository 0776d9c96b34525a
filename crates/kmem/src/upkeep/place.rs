//! The work of upkeep is for one party at a time.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use kmem_core::sync::{AtomicU32, Ordering};

use super::MILLISECOND;
use super::turn::Work;
use crate::linux::sys;

/// The work, and whether a party has it.
struct Place {
    taken: AtomicU32,
    work: UnsafeCell<Work>,
}

// SAFETY: the party that made `taken` 1 has the work alone.
unsafe impl Sync for Place {}

static PLACE: Place = Place { taken: AtomicU32::new(0), work: UnsafeCell::new(Work::new()) };

/// The work is the holder's; dropping this releases it.
pub(crate) struct Taken(());

impl Taken {
    /// Takes the work, if no party has it: also not this thread itself, further up in its stack.
    pub(crate) fn try_take() -> Option<Self> {
        PLACE.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok().then(|| Self(()))
    }
}

impl Deref for Taken {
    type Target = Work;
    fn deref(&self) -> &Work {
        // SAFETY: the work is the holder's.
        unsafe { &*PLACE.work.get() }
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Work {
        // SAFETY: as above, and this is borrowed uniquely.
        unsafe { &mut *PLACE.work.get() }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        PLACE.taken.store(0, Ordering::Release);
    }
}

/// The work, after waiting for the party that has it: until it is dropped no turn is taken.
pub(crate) fn hold() -> Taken {
    loop {
        match Taken::try_take() {
            Some(taken) => return taken,
            None => sys::sleep(MILLISECOND),
        }
    }
}

/// The work, if a turn that is under way ends within a tenth of a second: the caller may be called by that very turn.
pub(crate) fn hold_soon() -> Option<Taken> {
    (0..100).find_map(|_| {
        Taken::try_take().or_else(|| {
            sys::sleep(MILLISECOND);
            None
        })
    })
}

/// Sets the work to its beginning: this process has one thread.
pub(super) fn after_fork_in_child() {
    // SAFETY: the process has this one thread, and it is in fork, not in a turn.
    unsafe { (*PLACE.work.get()).forget() };
    PLACE.taken.store(0, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_for_one_party_at_a_time() {
        let held = hold();
        assert!(Taken::try_take().is_none());
        assert!(Taken::try_take().is_none(), "a party that could not have it must not release it");
        drop(held);
        assert!(Taken::try_take().is_some());
    }
}
