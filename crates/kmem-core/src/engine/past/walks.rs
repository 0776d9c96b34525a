//! Walks over the wrong CPUs, and at the wrong time.
//!
//! ```text
//! ships                                       here
//! shut out new slots; drain all that hold     drain; shut out: a slot made in between is never seen
//! drain all that hold something               drain those online: one that left, not dead yet, keeps its objects
//! look at every CPU, from any                 look at the CPU that the reaper happens to be on
//! objects go from depot to slab under a lock  objects are in a thread's hands: a destroy counts them as in use
//! the depot of a node that exists             the depot of the node that the platform names
//! ```

use super::Past;
use crate::batch::Batch;
use crate::cache::{CacheDesc, CacheState};
use crate::cpu::{CpuSet, Mistake, OnlineCpus};
use crate::engine::reclaim::Aged;
use crate::platform::{Place, Platform, Step};
use crate::slab::Reclaim;

/// The mistakes by which a drain leaves CPUs out.
pub(in crate::engine) const WALKS: [Mistake; 2] = [Mistake::DrainsOnline, Mistake::DrainsBeforeDying];

impl<P: Platform> Past<'_, P> {
    /// The CPUs that a drain leaves out.
    pub(in crate::engine) fn leave_out(&self, cache: &CacheDesc, holders: &mut CpuSet) {
        let engine = self.engine;
        let before = holders.len();
        match self.mistake {
            Mistake::DrainsOnline => holders.retain(|cpu| engine.cpus.online().contains(cpu)),
            // They were drained before.
            _ if *cache.life.lock(&engine.platform) == CacheState::Dying => holders.retain(|_| false),
            _ => {}
        }
        if holders.len() < before {
            self.slip();
        }
    }

    /// Drains a cache that is not dying yet.
    pub(in crate::engine) fn drain_first(&self, cache: &CacheDesc, online: &OnlineCpus<'_>) {
        let mut reclaim = Reclaim::new();
        self.engine.drain_and_reap(cache, online, CpuSet::NONE, &mut reclaim);
        self.engine.reclaim(reclaim);
    }

    /// Ages the slots of the CPU that the calling thread is on.
    pub(in crate::engine) fn age_here_only(&self) -> Aged {
        self.slip();
        self.engine.age_here()
    }

    /// Takes the objects out of the depots, and brings them to their slabs.
    pub(in crate::engine) fn reap_by_hand(&self, cache: &CacheDesc, reclaim: &mut Reclaim) {
        let engine = self.engine;
        for node in cache.nodes() {
            let mut batch = Batch::new();
            while node.depot.take(&engine.platform, &mut batch) > 0 {
                self.slip();
                // SAFETY: the objects came out of a depot of the cache, so they are the cache's and this thread's.
                unsafe { engine.return_to_slabs(batch.as_slice(), reclaim) };
                batch.truncate(0);
            }
        }
    }

    /// Looks for the depot of a CPU's node, and finds none if there is no such node.
    pub(in crate::engine) fn look_up_node(&self, cache: &CacheDesc, cpu: usize) {
        if self.engine.platform.node_of(cpu) >= cache.node_count() {
            self.engine.platform.step(Step::NoSlot { cache, cpu, place: Place::Node });
        }
    }
}
