//! Drain and reap: the first two steps of the way (see [the head](super)), for shrink, destroy, and CPUs that leave.
//!
//! Every drain takes a slot away by the one protocol of [`percpu`](crate::percpu).

use crate::cache::CacheDesc;
use crate::cpu::{CpuSet, Mistake, OnlineCpus, Stopped};
use crate::engine::Engine;
use crate::engine::past::WALKS;
use crate::percpu::{Area, section};
use crate::platform::{CacheStep, Platform, SlotStep, Step};
use crate::slab::Reclaim;
use crate::sync::Ordering;

/// Objects that a thread holds at a time while it drains a slot. Few, because this happens deep in the stack of a
/// thread that is out of memory. The depot makes whole magazines of them all the same.
pub(in crate::engine) const IN_HAND: usize = 16;

/// Where a drain moves the objects of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Destination {
    /// To the depot, where other CPUs find them; what the depot does not take, to the slabs.
    Depot,
    /// To the slabs.
    Slabs,
}

impl<P: Platform> Engine<P> {
    /// Drains every slot of the cache to the slabs, reaps its depots, and adds the empty slabs to `reclaim`. The slots
    /// are disabled; in a live cache each is enabled again on first use.
    ///
    /// Only CPUs whose slot is enabled are disturbed, and none of `spare`, whose slots stay as they are. The set of
    /// enabled slots is read after whatever keeps new ones out: in a dying cache none can be added (I39), and in a live
    /// one a slot that is enabled later counts as enabled after the shrink.
    #[cold]
    pub(in crate::engine) fn drain_and_reap(
        &self,
        cache: &CacheDesc,
        online: &OnlineCpus<'_>,
        spare: &CpuSet,
        reclaim: &mut Reclaim,
    ) {
        let mut holders = cache.holders();
        holders.retain(|cpu| !spare.contains(cpu));
        if let Some(past) = self.past(&WALKS) {
            past.leave_out(cache, &mut holders);
        }
        self.tell(cache, CacheStep::Draining { cpus: &holders });
        if let Some(past) = self.past(&[Mistake::ShrinksWithoutFence]) {
            past.drain_running(cache, &holders, reclaim);
        } else if !holders.is_empty() {
            // One fence for all; then each CPU runs again as soon as its slot is empty.
            let stopped = Stopped::new(online, &self.cpus, &self.table, &self.platform, &holders);
            // SAFETY: the CPU is stopped.
            stopped.for_each(|cpu, area| unsafe { self.drain_slot(cache, cpu, area, Destination::Slabs, reclaim) });
        }
        self.reap(cache, reclaim);
    }

    /// Reaps the depots of the cache, and adds the empty slabs to `reclaim`.
    #[cold]
    pub(in crate::engine) fn reap(&self, cache: &CacheDesc, reclaim: &mut Reclaim) {
        if let Some(past) = self.past(&[Mistake::ReapsByHand]) {
            past.reap_by_hand(cache, reclaim);
        }
        for node in cache.nodes() {
            // The objects are never in this thread's hands alone: a concurrent destroy would count them as in use
            // (I16).
            // SAFETY: objects in a depot are free, and of its cache.
            while node.depot.reap_one(&self.platform, |objects| unsafe { self.return_to_slabs(objects, reclaim) }) {}
            node.depot.free_empty(&self.platform, &self.meta);
        }
        for node in cache.nodes() {
            node.slabs.reclaim_empty(&self.platform, true, reclaim);
        }
        cache.rest.wake();
    }

    /// Drains and disables the slot of `cache` on a CPU whose area is private to the caller. The objects reach their
    /// destination before the control is released, so the next thread that drains the cache finds all of them (I6, I8).
    ///
    /// # Safety
    /// The area is that of the CPU, whose control the caller holds and whose sections are fenced off, or which was not
    /// published since its sections were (I36, I38).
    #[cold]
    pub(in crate::engine) unsafe fn drain_slot(
        &self,
        cache: &CacheDesc,
        cpu: usize,
        area: Area,
        to: Destination,
        reclaim: &mut Reclaim,
    ) {
        // SAFETY: the caller's promise; after the first call the slot is empty.
        unsafe {
            self.drain_objects(cache, cpu, area, to, reclaim);
            area.disable(cache.slot(), &self.meta, &self.platform);
        }
        cache.enabled_on.remove(cpu);
        self.platform.step(Step::Slot { cache, cpu, did: SlotStep::Disabled });
    }

    /// Drains a slot, and leaves it enabled, with its magazine.
    ///
    /// # Safety
    /// As for [`drain_slot`](Self::drain_slot).
    pub(in crate::engine) unsafe fn drain_objects(
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
            // SAFETY: the area is private, by the caller's promise.
            let count = unsafe { section::take(area, slot, &mut hand) };
            if count == 0 {
                break;
            }
            if let Some(control) = self.cpus.get(cpu) {
                control.drained.fetch_add(count, Ordering::Relaxed);
            }
            // SAFETY: the objects came out of a slot of the cache, so they are the cache's and this thread's alone.
            unsafe {
                match to {
                    Destination::Depot => self.return_objects_into(cache, cpu, &hand[..count], reclaim),
                    Destination::Slabs => self.return_to_slabs(&hand[..count], reclaim),
                }
            }
        }
    }
}
