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
use crate::cpu::Stopped;
use crate::engine::Engine;
use crate::error::TuneError;
use crate::percpu::{Area, section};
use crate::platform::Platform;
use crate::slab::Reclaim;

impl<P: Platform> Engine<P> {
    /// Sets the capacity of the cache's magazines, on all CPUs, now and later; from then on they do not grow by
    /// themselves. A small capacity bounds what CPUs keep for later use, a large one avoids misses.
    ///
    /// Takes the gate's read side, and costs one fence and O(what the slots hold). Threads that use the cache meanwhile
    /// are served by the depot and the slabs.
    ///
    /// # Errors
    /// The capacity is 0, or more than 2,047 objects or 256 KiB of them (the error says how many those are); the cache
    /// is gone or dying; or the caller is a hotplug callback. On an error nothing has changed.
    pub fn tune(&self, id: CacheId, capacity: usize) -> Result<(), TuneError> {
        if let Some(past) = self.past(&TUNES) {
            return past.tune(id, capacity);
        }
        let gate = self.gate.read(&self.platform).map_err(|_| TuneError::InsideCallback)?;
        let cache = self.registry.pin(&self.platform, id).ok_or(TuneError::NoSuchCache)?;
        let max = cache.tunable_to();
        if capacity == 0 || capacity > max {
            return Err(TuneError::CapacityOutOfRange { capacity, max });
        }
        {
            let life = cache.life.lock(&self.platform);
            if *life != CacheState::Live {
                return Err(TuneError::NoSuchCache);
            }
            cache.set_capacity(capacity);
        }
        let mut reclaim = Reclaim::new();
        let holders = cache.holders();
        if !holders.is_empty() {
            let online = gate.online(&self.cpus);
            Stopped::new(&online, &self.cpus, &self.table, &self.platform, &holders)
                // SAFETY: the CPU is stopped.
                .for_each(|cpu, area| unsafe { self.resize_slot(&cache, cpu, area, &mut reclaim) });
        }
        drop(gate);
        // The pin keeps the slabs' cache meanwhile (I19).
        self.reclaim(reclaim);
        Ok(())
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
            let mut hand = [0; IN_HAND];
            loop {
                let surplus = area.count(slot).saturating_sub(capacity).min(IN_HAND);
                let count = section::take(area, slot, &mut hand[..surplus]);
                if count == 0 {
                    break;
                }
                self.return_objects_into(cache, cpu, &hand[..count], reclaim);
            }
            if area.resize(slot, capacity, &self.meta, &self.platform) {
                return;
            }
            self.drain_slot(cache, cpu, area, Destination::Depot, reclaim);
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
