//! The capacity of magazines: changed for a whole cache (the tunables of a kmem_cache), or growing in one slot.
//!
//! ```text
//! gate (read)          no CPU is between two states: the fix of 2004 forgot this one, and a CPU that came up got NULL
//! life: capacity       slots that are enabled from here on get the new one; the cache is live
//! enabled slots        stopped with one fence; each gets a new magazine and keeps its objects,
//!                      and what no longer fits goes to the depot (I9)
//! ```
//! The capacity is stored under the lock under which slots are enabled, so every slot either was enabled before, and is
//! among those that are stopped, or has the new capacity. A destroy that begins meanwhile waits for the CPU's control
//! at each slot in turn, and finds the objects in the slot or in the depot (I16).
//!
//! No step depends on memory: if there is none for a slot's new magazine, the slot is disabled, and the next miss
//! enables it again.

use super::past::TUNES;
use super::reclaim::{Destination, IN_HAND};
use crate::cache::{CacheDesc, CacheId, CacheState};
use crate::cpu::{CpuSet, OnlineCpus, Stopped};
use crate::depot::MAGAZINES_MAX;
use crate::engine::Engine;
use crate::error::TuneError;
use crate::percpu::{Area, section};
use crate::platform::Platform;
use crate::slab::Reclaim;

/// The three tunables of a kmem_cache: what is `None` stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tuning {
    /// Objects that each CPU caches, 1 to 2,047 or 256 KiB of them: `limit`. Magazines no longer grow by themselves.
    pub limit: Option<usize>,
    /// Objects that move at a time between a CPU and depot or slabs, at most as many as a CPU caches, and as a magazine
    /// of the depot holds: `batchcount`.
    pub batch: Option<usize>,
    /// Full magazines that the depot of each node holds, 0 to 256: `shared`.
    pub depot: Option<usize>,
}

impl From<usize> for Tuning {
    fn from(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }
}

/// What became of the slots of a cache that was tuned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuned {
    /// CPUs whose slots have the new capacity.
    pub now: usize,
    /// CPUs whose slots get it when they are next enabled.
    pub later: usize,
}

/// Validates a tuning and stores it with the cache, whose life lock is held: new slots have it from here on.
fn note<P: Platform>(cache: &CacheDesc, state: CacheState, tuning: Tuning, platform: &P) -> Result<(), TuneError> {
    let max = cache.tunable_to();
    if let Some(capacity) = tuning.limit.filter(|limit| !(1..=max).contains(limit)) {
        return Err(TuneError::CapacityOutOfRange { capacity, max });
    }
    let max = cache.batch_max(tuning.limit.unwrap_or(cache.capacity()));
    if let Some(batch) = tuning.batch.filter(|batch| !(1..=max).contains(batch)) {
        return Err(TuneError::BatchOutOfRange { batch, max });
    }
    if let Some(depot) = tuning.depot.filter(|depot| *depot > MAGAZINES_MAX) {
        return Err(TuneError::DepotOutOfRange { depot, max: MAGAZINES_MAX });
    }
    if state != CacheState::Live {
        return Err(TuneError::NoSuchCache);
    }
    if let Some(capacity) = tuning.limit {
        cache.set_capacity(capacity);
    }
    if let Some(batch) = tuning.batch {
        cache.set_batch(batch);
    }
    if tuning.batch.is_some() || tuning.depot.is_some() {
        cache.nodes().for_each(|node| node.depot.tune(platform, tuning.depot, tuning.batch));
    }
    Ok(())
}

impl<P: Platform> Engine<P> {
    /// Tunes a cache, or only sets the capacity of its magazines, on all CPUs, now and later; from then on they do not
    /// grow by themselves. A small capacity bounds what CPUs keep for later use, a large one avoids misses.
    ///
    /// Takes the gate's read side, and costs one fence and O(what the slots hold). Threads that use the cache meanwhile
    /// are served by the depot and the slabs.
    ///
    /// # Errors
    /// The capacity is 0, or more than 2,047 objects or 256 KiB of them (the error says how many those are); another
    /// value of [`Tuning`] is out of range; the cache is gone or dying; or the caller is a hotplug callback. On an
    /// error nothing has changed.
    pub fn tune(&self, id: CacheId, tuning: impl Into<Tuning>) -> Result<(), TuneError> {
        self.tune_to(id, tuning.into())
    }

    /// The same. Out of line, because its caller would keep all that it needs of the stack.
    #[inline(never)]
    fn tune_to(&self, id: CacheId, tuning: Tuning) -> Result<(), TuneError> {
        if let (Some(past), Some(limit)) = (self.past(&TUNES), tuning.limit) {
            return past.tune(id, limit);
        }
        let gate = self.gate.read(&self.platform).map_err(|_| TuneError::InsideCallback)?;
        let cache = self.registry.pin(&self.platform, id).ok_or(TuneError::NoSuchCache)?;
        {
            let life = cache.life.lock(&self.platform);
            note(&cache, *life, tuning, &self.platform)?;
        }
        let mut reclaim = Reclaim::new();
        self.reap_beyond_limit(&cache, &mut reclaim);
        if tuning.limit.is_some() {
            self.resize_slots(&gate.online(&self.cpus), &cache, &mut reclaim);
        }
        drop(gate);
        // The pin keeps the slabs' cache meanwhile (I19).
        self.reclaim(reclaim);
        Ok(())
    }

    /// Gives all enabled slots of `cache` the capacity that was asked for. Out of line, like the other steps, so that
    /// what one of them needs of the stack is not below the next one.
    #[inline(never)]
    fn resize_slots(&self, online: &OnlineCpus<'_>, cache: &CacheDesc, reclaim: &mut Reclaim) {
        let holders = cache.holders();
        if !holders.is_empty() {
            Stopped::new(online, &self.cpus, &self.table, &self.platform, &holders)
                // SAFETY: the CPU is stopped.
                .for_each(|cpu, area| unsafe { self.resize_slot(cache, cpu, area, reclaim) });
        }
    }

    /// The same for a caller that may wait for no other thread and run none of the program's code: on a slow path of
    /// the program's, because another process asks. `None`: not now. Slabs that become empty stay with the cache.
    ///
    /// With `may_call` a fence may be a system call. Otherwise only slots whose CPU is fenced without one get the new
    /// capacity now; others keep theirs until they are enabled anew, after they were idle.
    #[inline(never)]
    pub fn try_tune(&self, id: CacheId, tuning: &Tuning, may_call: bool) -> Option<Result<Tuned, TuneError>> {
        let gate = self.gate.try_read(&self.platform)?;
        let Some(cache) = self.registry.pin(&self.platform, id) else { return Some(Err(TuneError::NoSuchCache)) };
        {
            let life = cache.life.try_lock(&self.platform)?;
            if let Err(error) = note(&cache, *life, *tuning, &self.platform) {
                return Some(Err(error));
            }
        }
        self.reap_beyond_limit(&cache, &mut Reclaim::closed());
        if tuning.limit.is_none() {
            return Some(Ok(Tuned { now: 0, later: 0 }));
        }
        let (online, mut tuned) = (gate.online(&self.cpus), Tuned { now: 0, later: 0 });
        for cpu in cache.each_holder() {
            let is_done = self.resize_on(&online, &cache, cpu, may_call);
            *(if is_done { &mut tuned.now } else { &mut tuned.later }) += 1;
        }
        Some(Ok(tuned))
    }

    /// Returns to the slabs what depots hold beyond their limit.
    #[inline(never)]
    fn reap_beyond_limit(&self, cache: &CacheDesc, reclaim: &mut Reclaim) {
        for node in cache.nodes() {
            while node.depot.is_beyond_limit(&self.platform)
                && node.depot.reap_one(&self.platform, |objects| {
                    // SAFETY: they are the cache's, and were in its depot.
                    unsafe { self.return_to_slabs(objects, reclaim) };
                })
            {}
        }
    }

    /// Gives the slot of `cache` on `cpu` the capacity that was asked for, if the CPU can be stopped.
    #[inline(never)]
    fn resize_on(&self, online: &OnlineCpus<'_>, cache: &CacheDesc, cpu: usize, may_call: bool) -> bool {
        let one = CpuSet::of(cpu);
        let mut stopped = Stopped::quietly(online, &self.cpus, &self.table, &self.platform, &one);
        if stopped.is_none() && may_call && self.platform.can_fence() {
            stopped = Some(Stopped::new(online, &self.cpus, &self.table, &self.platform, &one));
        }
        let Some(stopped) = stopped else { return false };
        // SAFETY: the CPU is stopped.
        stopped.for_each(|cpu, area| unsafe { self.resize_slot(cache, cpu, area, &mut Reclaim::closed()) });
        true
    }

    /// Gives the slot of `cache` the capacity that was asked for. It may have been disabled since it was seen enabled.
    ///
    /// The capacity is read here, under the CPU's control. If `tune` passed it on, one of two tunes could leave a slot
    /// with the capacity of the other:
    /// ```text
    /// tune to 16: stores 16                                        |                      resizes CPU 0 to 16
    /// tune to 2:                 stores 2, resizes CPU 0 to 2      |
    /// ```
    /// The model `tune_against_tune_and_up` would fail.
    ///
    /// # Safety
    /// The area is private to the caller: as for [`drain_slot`](Self::drain_slot).
    pub(super) unsafe fn resize_slot(&self, cache: &CacheDesc, cpu: usize, area: Area, reclaim: &mut Reclaim) {
        let (slot, capacity) = (cache.slot(), cache.capacity());
        // SAFETY: the area is private, and the slot is below its number of slots; what comes out of it is the cache's.
        unsafe {
            if !area.is_enabled(slot) || area.capacity(slot) == capacity {
                return;
            }
            self.return_surplus(cache, cpu, area, reclaim);
            if area.resize(slot, capacity, &self.meta, &self.platform) {
                return;
            }
            self.drain_slot(cache, cpu, area, Destination::Depot, reclaim);
        }
    }

    /// Moves what no longer fits into the slot of `cache` to the depot.
    ///
    /// # Safety
    /// As for [`resize_slot`](Self::resize_slot).
    #[inline(never)]
    unsafe fn return_surplus(&self, cache: &CacheDesc, cpu: usize, area: Area, reclaim: &mut Reclaim) {
        let (slot, capacity) = (cache.slot(), cache.capacity());
        let mut hand = [0; IN_HAND];
        // SAFETY: as in `resize_slot`.
        unsafe {
            loop {
                let surplus = area.count(slot).saturating_sub(capacity).min(IN_HAND);
                let count = section::take(area, slot, &mut hand[..surplus]);
                if count == 0 {
                    break;
                }
                self.return_objects_into(cache, cpu, &hand[..count], reclaim);
            }
        }
    }

    /// Doubles the capacity of the slot's magazine, which keeps its objects, if the CPU can be fenced without a system
    /// call. Otherwise the next overflow tries again.
    ///
    /// # Safety
    /// The area is that of the CPU, whose control the caller holds.
    pub(super) unsafe fn grow_slot(&self, cache: &CacheDesc, cpu: usize, area: Area) {
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
