//! Emptying slots: for shrink, destroy, growth and CPUs that leave, all by the one protocol of
//! [`percpu`](crate::percpu).

use crate::cache::{CacheDesc, CacheId};
use crate::cpu::{CpuSet, OnlineCpus, Stopped};
use crate::engine::Engine;
use crate::error::DestroyError;
use crate::percpu::{Area, section};
use crate::platform::{CacheStep, Platform, SlotStep, Step};
use crate::slab::Reclaim;
use crate::sync::Ordering;

/// Objects in the hands of who empties a slot. Few: that happens deep in the stack of whoever is out of memory. The depot
/// makes whole magazines of them all the same.
pub(crate) const IN_HAND: usize = 16;

/// Where the objects of a slot go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the depot, where other CPUs find them, and the rest to the slabs.
    Depot,
    /// To the slabs.
    Slabs,
}

impl<P: Platform> Engine<P> {
    /// Gives back all that the cache holds and nobody uses, whole slabs and the free pages of others:
    /// kmem_cache_shrink. Answers the bytes.
    ///
    /// Takes the gate's read side. Threads that use the cache meanwhile are served by the depot and the slabs.
    pub fn shrink(&self, id: CacheId) -> Result<usize, DestroyError> {
        let cache = self.registry.pin(&self.platform, id).ok_or(DestroyError::NoSuchCache)?;
        Ok(self.shrink_pinned(&cache)? + self.purge_pages(&cache))
    }

    /// The slabs' part of it, for a cache that the caller has pinned: the pin keeps it while its destructors run here
    /// (I19).
    #[cold]
    pub(crate) fn shrink_pinned(&self, cache: &CacheDesc) -> Result<usize, DestroyError> {
        let gate = self.gate.read(&self.platform).map_err(|_| DestroyError::InsideCallback)?;
        let mut reclaim = Reclaim::new();
        if self.platform.protocol().keep_listed {
            self.drain(cache, &gate.online(&self.cpus), CpuSet::NONE, &mut reclaim);
        } else {
            self.shrink_historic(cache, &gate.online(&self.cpus), &mut reclaim);
        }
        drop(gate);
        Ok(self.release(reclaim))
    }

    /// Gives the slabs back that became empty under a closed [`Reclaim`], of the caches that are `meant`, one by one, each
    /// with a pin. No lock may be held.
    pub(crate) fn sweep(&self, meant: impl Fn(&CacheDesc) -> bool) {
        self.registry.for_each(&self.platform, |cache| {
            if meant(cache) {
                self.sweep_one(cache);
            }
        });
    }

    /// The same of one cache, which lives.
    #[cold]
    pub(crate) fn sweep_one(&self, cache: &CacheDesc) {
        let mut reclaim = Reclaim::new();
        cache.nodes().for_each(|node| node.slabs.reclaim_empty(&self.platform, false, &mut reclaim));
        self.release(reclaim);
    }

    /// Moves everything that slots and depot hold to the slabs, and takes the empty slabs. The slots are disabled by
    /// it; in a live cache they are enabled again on first use.
    ///
    /// Only CPUs whose slot is enabled are disturbed, and of these none of `spare`, whose slots stay as they are. The set is
    /// read after what shuts new ones out: in a dying cache none can be added (I39), in a live one a newcomer is as
    /// good as one that came after the shrink.
    #[cold]
    pub(crate) fn drain(&self, cache: &CacheDesc, online: &OnlineCpus<'_>, spare: &CpuSet, reclaim: &mut Reclaim) {
        let mut holders = cache.holders();
        holders.retain(|cpu| !spare.contains(cpu));
        self.tell(cache, CacheStep::Draining { cpus: &holders });
        if !holders.is_empty() {
            // One fence for all; then each CPU runs again as soon as its slot is empty.
            let stopped = Stopped::new(online, &self.cpus, &self.table, &self.platform, &holders);
            // SAFETY: the CPU is stopped.
            stopped.for_each(|cpu, area| unsafe { self.empty_slot(cache, cpu, area, Destination::Slabs, reclaim) });
        }
        self.drain_depots(cache, reclaim);
    }

    /// The depots' part of a drain, and the empty slabs.
    #[cold]
    pub(crate) fn drain_depots(&self, cache: &CacheDesc, reclaim: &mut Reclaim) {
        for node in cache.nodes() {
            // Never in this thread's hands alone: a destroy beside this shrink would count them as in use (I16).
            // SAFETY: what is in a depot is nobody's, and of its cache.
            while node.depot.empty_one(&self.platform, |objects| unsafe { self.put_on_slabs(objects, reclaim) }) {}
            node.depot.free_empty(&self.platform, &self.meta);
        }
        for node in cache.nodes() {
            node.slabs.reclaim_empty(&self.platform, true, reclaim);
        }
    }

    /// Empties and disables the slot of `cache` on a CPU whose area is private to the caller. The objects reach their
    /// destination before the control is given up, so whoever drains the cache next finds all of them (I6, I8).
    ///
    /// # Safety
    /// The area is that of the CPU, whose control the caller holds and whose sections are fenced off, or which was not
    /// published since its sections were (I36, I38).
    #[cold]
    pub(crate) unsafe fn empty_slot(
        &self,
        cache: &CacheDesc,
        cpu: usize,
        area: Area,
        to: Destination,
        reclaim: &mut Reclaim,
    ) {
        // SAFETY: passed on; then the slot is empty.
        unsafe {
            self.take_out(cache, cpu, area, to, reclaim);
            area.disable(cache.slot(), &self.meta, &self.platform);
        }
        cache.enabled_on.remove(cpu);
        self.platform.step(Step::Slot { cache, cpu, did: SlotStep::Disabled });
    }

    /// The objects' part of [`empty_slot`](Self::empty_slot).
    ///
    /// # Safety
    /// As for that.
    pub(crate) unsafe fn take_out(
        &self,
        cache: &CacheDesc,
        cpu: usize,
        area: Area,
        to: Destination,
        reclaim: &mut Reclaim,
    ) {
        let slot = cache.slot();
        let mut hand = [0; IN_HAND];
        loop {
            // SAFETY: the area is private, by the caller's word.
            let count = unsafe { section::take(area, slot, &mut hand) };
            if count == 0 {
                break;
            }
            if let Some(control) = self.cpus.get(cpu) {
                control.drained.fetch_add(count, Ordering::Relaxed);
            }
            // SAFETY: what came out of a slot of the cache is its, and nobody else's.
            unsafe {
                match to {
                    Destination::Depot => self.give_back_into(cache, cpu, &hand[..count], reclaim),
                    Destination::Slabs => self.put_on_slabs(&hand[..count], reclaim),
                }
            }
        }
    }

    /// Gives the slot of `cache` a magazine of twice the capacity, and its objects with it, if the CPU can be fenced without
    /// asking the kernel; the next overflow tries again.
    ///
    /// # Safety
    /// The area is that of the CPU, whose control the caller holds.
    pub(crate) unsafe fn grow_slot(&self, cache: &CacheDesc, cpu: usize, area: Area) {
        let slot = cache.slot();
        // SAFETY: the control is held, so the area stays mapped.
        let capacity = unsafe { area.capacity(slot) };
        if capacity == 0 || capacity >= cache.capacity_max() || self.table.get(cpu) != area {
            return;
        }
        let wider = (capacity * 2).min(cache.capacity_max());
        // SAFETY: the control is held.
        unsafe { self.table.withdraw(cpu) };
        if self.platform.fence_quietly(cpu) {
            // SAFETY: the area is private from the fence to the publication.
            unsafe { area.resize(slot, wider, &self.meta, &self.platform) };
        }
        // SAFETY: the control is held, and the area is the CPU's.
        unsafe { self.table.publish(cpu, area) };
    }
}
