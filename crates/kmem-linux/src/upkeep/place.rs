//! The work of upkeep is for one party at a time.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use kmem_core::sync::{AtomicUsize, Ordering};

use super::state::MILLISECOND;
use super::turn::Work;
use crate::os::sys;
use crate::rseq::thread_data;

/// The work, and which party has it.
struct Place {
    /// The token of the thread that has it, or 0.
    taken: AtomicUsize,
    work: UnsafeCell<Work>,
}

// SAFETY: the thread that made `taken` its own has the work alone.
unsafe impl Sync for Place {}

static PLACE: Place = Place { taken: AtomicUsize::new(0), work: UnsafeCell::new(Work::new()) };

/// The work is the holder's; dropping this releases it.
pub(crate) struct Taken(());

impl Taken {
    /// Takes the work, if no party has it: also not this thread itself, further up in its stack.
    pub(crate) fn try_take() -> Option<Self> {
        let taken = PLACE.taken.compare_exchange(0, thread_data::pointer(), Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then(|| Self(()))
    }

    /// Whether this thread has it, further up in its stack: it would wait for itself.
    fn is_own() -> bool {
        PLACE.taken.load(Ordering::Relaxed) == thread_data::pointer()
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

/// The work, if a turn that is under way ends within a tenth of a second; never if this thread has it already, further
/// up in its stack (a destructor that trims, say, called by a trim).
pub(crate) fn hold_soon() -> Option<Taken> {
    let tries = if Taken::is_own() { 0 } else { 100 };
    (0..tries).find_map(|_| {
        Taken::try_take().or_else(|| {
            sys::sleep(MILLISECOND);
            None
        })
    })
}

/// Sets the work to its beginning: this process has one thread. One that is in a turn itself, and forks in a signal
/// handler, goes on with it.
pub(super) fn after_fork_in_child() {
    if PLACE.taken.load(Ordering::Relaxed) == thread_data::pointer() {
        return;
    }
    // SAFETY: the process has this one thread, and it is not in a turn.
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
