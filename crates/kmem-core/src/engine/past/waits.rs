//! Waiting for others with a lock held that they need, and not waiting at all.
//!
//! ```text
//! ships                                         here
//! unlist; release the gate; wait for pins       wait with the gate: a reader waits for a transition, the transition
//!                                               for this thread, and this thread for the reader
//! wait with no lock held                        wait with the registry: the reader needs it to end its pin
//! free when the pins are gone                   free at once
//! ```

use super::Past;
use crate::cache::Pinned;
use crate::cpu::{Mistake, ReadGuard};
use crate::engine::destroy::Freeing;
use crate::platform::Platform;
use crate::slab::Reclaim;

/// The mistakes of the last part of a destroy.
pub(in crate::engine) const WAITS: [Mistake; 3] =
    [Mistake::FreesUnderReaders, Mistake::WaitsUnderRegistry, Mistake::WaitsUnderGate];

impl<'a, P: Platform> Past<'a, P> {
    /// Waits for readers of a cache that is off the list, and frees it.
    pub(in crate::engine) fn wait_and_free(&self, gate: ReadGuard<'_, P>, cache: Pinned<'a, P>, reclaim: Reclaim) {
        let (engine, id) = (self.engine, cache.id());
        let gate = (self.mistake == Mistake::WaitsUnderGate).then_some(gate);
        self.slip();
        let desc = match self.mistake {
            Mistake::FreesUnderReaders => cache.leave_pinned(),
            Mistake::WaitsUnderRegistry => engine.registry.only_pin_under_lock(cache),
            _ => engine.registry.only_pin(cache),
        };
        drop(gate);
        let freeing = Freeing { engine, desc, id };
        engine.reclaim(reclaim);
        drop(freeing);
    }
}
