//! Taking memory out of caches.

use crate::cache::CacheDesc;
use crate::cpu::CpuSet;
use crate::engine::Engine;
use crate::error::DestroyError;
use crate::platform::Platform;
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
    /// Gives back all that nobody uses, in all caches, and answers how many bytes went to the page source.
    pub fn trim(&self) -> Result<usize, DestroyError> {
        let mut pages = Ok(0);
        self.registry.for_each(&self.platform, |cache| {
            pages = pages.and_then(|bytes| {
                self.shrink_pinned(cache)?;
                Ok(bytes + self.purge_pages(cache))
            });
        });
        self.give_back_areas(0);
        Ok(pages? + self.heap.purge(&self.platform))
    }

    /// Memory is out: gives back all that caches hold for later, and the address space of free runs.
    ///
    /// This runs inside any allocation, in whatever state its caller is. So it waits for no transition (while one runs,
    /// only the free runs go), and leaves caches with a destructor alone: that is somebody's code.
    #[cold]
    pub(crate) fn give_up_all(&self) {
        self.drain_all(CpuSet::NONE, |_| 0);
        self.give_back_areas(0);
        self.heap.uncommit(&self.platform);
    }

    /// Drains every cache without a destructor, except on the CPUs of `spare`, if no transition runs, and lets `more` give back what else it finds of
    /// each; answers the bytes of all.
    pub(crate) fn drain_all(&self, spare: &CpuSet, more: impl Fn(&CacheDesc) -> usize) -> usize {
        let mut bytes = 0;
        self.registry.for_each(&self.platform, |cache| {
            if !cache.has_destructor()
                && let Some(gate) = self.gate.try_read(&self.platform)
            {
                // Released cache by cache, for it is the pin that keeps the slabs' cache (I19).
                let mut reclaim = Reclaim::new();
                self.drain(cache, &gate.online(&self.cpus), spare, &mut reclaim);
                drop(gate);
                bytes += self.release(reclaim) + more(cache);
            }
        });
        bytes
    }

    /// Gives slabs back. No lock may be held (I31, I34), nor the gate, except that a hotplug callback may free objects.
    pub(crate) fn release(&self, reclaim: Reclaim) -> usize {
        reclaim.release(&self.env(), &self.inside)
    }
}
