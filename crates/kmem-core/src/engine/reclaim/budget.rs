//! How much is cached, and bounding it: what an embedder needs that keeps a process within a budget.

use crate::cpu::CpuSet;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab::Reclaim;

/// What the slots of a CPU hold at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CachedOn {
    /// Objects.
    pub objects: usize,
    /// Bytes of these.
    pub bytes: usize,
}

impl<P: Platform> Engine<P> {
    /// What the slots of a CPU hold at this moment, in all caches.
    pub fn cached_on(&self, cpu: usize) -> CachedOn {
        let mut cached = CachedOn::default();
        self.for_each_slot(|cache, at, objects| {
            if at == cpu {
                cached.objects += objects;
                cached.bytes += objects * cache.layout().size;
            }
        });
        cached
    }

    /// Bytes of the objects in all slots, and in all depots, at this moment.
    pub fn cached_bytes(&self) -> (usize, usize) {
        let (mut in_slots, mut in_depots) = (0, 0);
        self.for_each_slot(|cache, _, objects| in_slots += objects * cache.layout().size);
        self.registry.for_each_awake(&self.platform, |cache| {
            let objects: usize = cache.nodes().map(|node| node.depot.count()).sum();
            in_depots += objects * cache.layout().size;
        });
        (in_slots, in_depots)
    }

    /// Reaps all depots and reclaims the empty slabs, except of caches with a destructor: that is the program's code,
    /// which never runs on a thread that does upkeep. Returns the bytes of the slabs. The caller holds no lock.
    pub fn reap_depots(&self) -> usize {
        let mut bytes = 0;
        self.registry.for_each_awake(&self.platform, |cache| {
            if !cache.has_destructor() {
                let mut reclaim = Reclaim::new();
                self.reap(cache, &mut reclaim);
                bytes += self.reclaim(reclaim);
            }
        });
        bytes
    }

    /// Memory is short: reclaims all that is cached, except on the CPUs of `spare`, which are not disturbed, and purges
    /// free runs and the free pages inside slabs. Returns the bytes.
    ///
    /// It waits for no transition (during one, slots keep what they have), and skips caches with a destructor, so it
    /// runs none of the program's code. The caller holds no lock.
    pub fn relieve(&self, spare: &CpuSet) -> usize {
        self.unmap_kept_areas(0);
        self.reclaim_all(spare, |cache| self.purge_pages(cache)) + self.heap.purge(&self.platform)
    }
}
