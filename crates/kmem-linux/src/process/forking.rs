//! Whether the calling thread is inside fork: no turn of upkeep is taken there, and no thread begins.

use kmem_core::Engine;
use kmem_core::sync::{AtomicU32, Ordering};

use crate::platform::Linux;

/// Forks under way for which nothing was taken. There is one thread then.
static ALONE: AtomicU32 = AtomicU32::new(0);

/// Whether the calling thread is inside fork.
pub(crate) fn is_under_way(engine: &Engine<Linux>) -> bool {
    engine.is_forking() || ALONE.load(Ordering::Relaxed) > 0
}

/// Begins a fork for which nothing is taken.
pub(crate) fn begin_alone() {
    ALONE.fetch_add(1, Ordering::Relaxed);
}

/// Ends a fork for which nothing was taken; none, where there was no engine before.
pub(crate) fn end_alone() {
    let _ = ALONE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |forks| forks.checked_sub(1));
}
