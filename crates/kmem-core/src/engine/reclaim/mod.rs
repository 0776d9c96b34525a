//! Giving memory back: from the slots of CPUs to the system, by four steps.
//!
//! ```text
//!         drain            reap              reclaim                purge
//! slots -------> depots ---------> slabs --------------> page heap --------> system
//!      `----------------------------^
//! ```
//! | verb | what moves | from | to |
//! |---|---|---|---|
//! | **drain** | objects | the slots of CPUs that are stopped | the depot, or their slabs |
//! | **reap** | objects | the depot | their slabs |
//! | **reclaim** | empty slabs | the nodes of a cache | the page heap |
//! | **purge** | memory of free runs, and of free pages inside slabs | the page heap | the system |
//!
//! Functions are named after the steps that they take. Only a drain disturbs CPUs. Slabs that a step makes superfluous
//! are gathered in a [`Reclaim`] while locks are held, and reclaimed when none is (I31, I34).
//!
//! The rest are policies: when to take which steps, and how far.
//!
//! | file | policy |
//! |---|---|
//! | `mod.rs` | all steps at once: a user asks ([`shrink`](Engine::shrink), [`trim`](Engine::trim)), or memory is out |
//! | `idle_slots.rs` | drains slots that were not used for a period |
//! | `budget.rs` | drains, reaps and purges down to what a process may keep |
//! | `decay.rs` | reaps, reclaims and purges what was not needed for a period |
//! | `sweep.rs` | the same by frees, where no thread does it periodically |
//! | `kept_areas.rs` | unmaps the areas of CPUs that went down and stayed down |

use crate::cache::{CacheDesc, CacheId};
use crate::cpu::CpuSet;
use crate::engine::Engine;
use crate::error::DestroyError;
use crate::platform::{Event, Platform};
use crate::slab::Reclaim;

mod budget;
mod decay;
mod drain;
mod idle_slots;
mod kept_areas;
mod sweep;

pub use budget::CachedOn;
pub use decay::Decayed;
pub(super) use drain::{Destination, IN_HAND};
pub use idle_slots::Aged;

impl<P: Platform> Engine<P> {
    /// Releases all memory that the cache holds and does not use, whole slabs and the free pages of others:
    /// kmem_cache_shrink. Returns the bytes.
    ///
    /// Takes the gate's read side. Threads that use the cache meanwhile are served by the depot and the slabs.
    pub fn shrink(&self, id: CacheId) -> Result<usize, DestroyError> {
        let cache = self.registry.pin(&self.platform, id).ok_or(DestroyError::NoSuchCache)?;
        Ok(self.shrink_pinned(&cache)? + self.purge_pages(&cache))
    }

    /// The slabs' part of a shrink. The caller has pinned the cache, which keeps it while its destructors run here
    /// (I19).
    #[cold]
    fn shrink_pinned(&self, cache: &CacheDesc) -> Result<usize, DestroyError> {
        if let Some(order) = self.order_of_2004() {
            return order.shrink(cache);
        }
        let gate = self.gate.read(&self.platform).map_err(|_| DestroyError::InsideCallback)?;
        let mut reclaim = Reclaim::new();
        self.drain_and_reap(cache, &gate.online(&self.cpus), CpuSet::NONE, &mut reclaim);
        drop(gate);
        Ok(self.reclaim(reclaim))
    }

    /// Releases all memory that no cache uses, and returns how many bytes went to the system.
    pub fn trim(&self) -> Result<usize, DestroyError> {
        let mut pages = Ok(0);
        self.registry.for_each(&self.platform, |cache| {
            pages = pages.and_then(|bytes| {
                self.shrink_pinned(cache)?;
                Ok(bytes + self.purge_pages(cache))
            });
        });
        self.unmap_kept_areas(0);
        Ok(pages? + self.heap.purge(&self.platform))
    }

    /// Memory is out: reclaims all that caches hold for later use, and returns even the address space of free runs.
    ///
    /// This runs inside any allocation, in whatever state its caller is. So it waits for no transition (during one,
    /// only the free runs go), and skips caches with a destructor, because a destructor is the user's code.
    #[cold]
    pub(super) fn reclaim_everything(&self) {
        self.reclaim_all(CpuSet::NONE, |_| 0);
        self.unmap_kept_areas(0);
        self.heap.uncommit(&self.platform);
    }

    /// Drains, reaps and reclaims every cache without a destructor, except for the slots of the CPUs in `spare`, and
    /// lets `more` release what else it finds of each. Skips caches while a transition runs. Returns the bytes of all.
    fn reclaim_all(&self, spare: &CpuSet, more: impl Fn(&CacheDesc) -> usize) -> usize {
        let mut bytes = 0;
        self.registry.for_each(&self.platform, |cache| {
            if !cache.has_destructor()
                && let Some(gate) = self.gate.try_read(&self.platform)
            {
                // Cache by cache, because the pin is what keeps the slabs' cache from being freed (I19).
                let mut reclaim = Reclaim::new();
                self.drain_and_reap(cache, &gate.online(&self.cpus), spare, &mut reclaim);
                drop(gate);
                bytes += self.reclaim(reclaim) + more(cache);
            }
        });
        bytes
    }

    /// Reclaims slabs. The caller holds no lock (I31, I34), nor the gate, except that a hotplug callback may free
    /// objects.
    pub(super) fn reclaim(&self, reclaim: Reclaim) -> usize {
        let bytes = reclaim.into_heap(&self.env(), &self.inside);
        if bytes > 0 {
            self.platform.event(Event::SlabsFreed { bytes });
        }
        bytes
    }

    /// Reclaims the slabs that became empty under a closed [`Reclaim`], of the caches that are `meant`. Each cache is
    /// pinned meanwhile. The caller holds no lock.
    pub(super) fn reclaim_empty(&self, meant: impl Fn(&CacheDesc) -> bool) {
        self.registry.for_each(&self.platform, |cache| {
            if meant(cache) {
                self.reclaim_empty_of(cache);
            }
        });
    }

    /// The same of one cache, which lives.
    #[cold]
    pub(super) fn reclaim_empty_of(&self, cache: &CacheDesc) {
        let mut reclaim = Reclaim::new();
        cache.nodes().for_each(|node| node.slabs.reclaim_empty(&self.platform, false, &mut reclaim));
        self.reclaim(reclaim);
    }
}
