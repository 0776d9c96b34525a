//! The order of 2004, which a simulator may ask for: see [`Protocol`](crate::cpu::Protocol). No other platform has any
//! of this in it.
//!
//! ```text
//! create    slots of the online CPUs; then on the list
//! destroy   off the list; drain the slots of the online CPUs; objects in use? then on the list again, and Busy;
//!           free the slots of all; free
//! prepare   a slot of every listed cache
//! dead      take the slot of every listed cache away
//! ```
//! It is right under the gate, and fails without it: a CPU that changes its state between two of these steps is missed
//! by one and met by another. Slots are not made at a miss here, and a drain leaves them; a thread that finds none
//! although the order relies on one reports [`Step::NoSlot`].
//!
//! The kernel held a semaphore over each change of the list and over each walk. Here a cache's life lock stands for it:
//! it is *on the list* while it is listed and live, and both sides look at that, and act on it, under the lock.

use core::ptr::NonNull;

use super::destroy::Freeing;
use super::reclaim::Destination;
use crate::cache::{CacheDesc, CacheId, CacheState};
use crate::cpu::{CpuEvent, CpuSet, OnlineCpus, Stopped};
use crate::engine::Engine;
use crate::error::{CreateError, DestroyError};
use crate::platform::{CacheStep, Place, Platform, SlotStep, Step};
use crate::slab::Reclaim;

impl<P: Platform> Engine<P> {
    /// kmem_cache_create: `enable_cpucache`, then the list. On an error the descriptor is as it was.
    ///
    /// # Safety
    /// As for [`Registry::list`](crate::cache::Registry::list).
    pub(super) unsafe fn list_historic(
        &self,
        desc: NonNull<CacheDesc>,
        online: &OnlineCpus<'_>,
    ) -> Result<CacheId, CreateError> {
        // SAFETY: the caller's promise.
        let id = unsafe { self.registry.assign(&self.platform, desc)? };
        // SAFETY: the descriptor is valid, and from here on only shared.
        let cache = unsafe { desc.as_ref() };
        let cpus = online.set();
        let made = cpus.iter().all(|cpu| self.enable_historic(cache, cpu));
        self.tell(cache, CacheStep::SlotsMade { cpus: &cpus });
        // SAFETY: the caller's promise; it has an index.
        let link = || unsafe { self.registry.link_new(&self.platform, desc) };
        let listed = if made { link() } else { Err(CreateError::NoMemory) };
        if let Err(error) = listed {
            self.free_slots_historic(cache, online);
            self.registry.recycle(&self.platform, id);
            return Err(error);
        }
        let mut life = cache.life.lock(&self.platform);
        *life = CacheState::Live;
        self.tell(cache, CacheStep::Listed);
        drop(life);
        Ok(id)
    }

    fn enable_historic(&self, cache: &CacheDesc, cpu: usize) -> bool {
        let Some(control) = self.cpus.get(cpu) else { return true };
        let mut control = control.lock.lock(&self.platform);
        if !self.cpus.online().contains(cpu) {
            return true;
        }
        // SAFETY: the control is held; this order has no use for the life lock, and falls where its gate is taken away.
        unsafe { self.area_of(&mut control, cpu).is_some_and(|area| self.enable_slot(cache, cpu, area)) }
    }

    /// kmem_cache_destroy: off the list, then `drain_cpu_caches`.
    ///
    /// # Safety
    /// As for [`destroy`](Self::destroy).
    pub(super) unsafe fn destroy_historic(&self, id: CacheId) -> Result<(), DestroyError> {
        let gate = self.gate.read(&self.platform).map_err(|_| DestroyError::InsideCallback)?;
        let cache = self.registry.pin(&self.platform, id).ok_or(DestroyError::NoSuchCache)?;
        if self.inside.is_in(&self.platform, &cache) {
            return Err(DestroyError::InsideItself);
        }
        {
            let mut life = cache.life.lock(&self.platform);
            if *life != CacheState::Live {
                drop(life);
                return Err(DestroyError::NoSuchCache);
            }
            *life = CacheState::Dying;
            self.tell(&cache, CacheStep::Unlisted);
        }
        self.registry.unlist(&cache);
        let mut reclaim = Reclaim::new();
        self.drain_historic(&cache, &gate.online(&self.cpus), &mut reclaim);
        self.tell(&cache, CacheStep::Drained);
        let live = self.objects_in_use(&cache);
        self.tell(&cache, CacheStep::Checked { live });
        if live > 0 {
            // SAFETY: it was taken off above.
            unsafe { self.registry.relist(&cache) };
            *cache.life.lock(&self.platform) = CacheState::Live;
            self.tell(&cache, CacheStep::Revived);
            drop(gate);
            self.reclaim(reclaim);
            return Err(DestroyError::Busy { live });
        }
        self.free_slots_historic(&cache, &gate.online(&self.cpus));
        drop(gate);
        let freeing = Freeing { engine: self, desc: self.registry.only_pin(cache), id };
        self.reclaim(reclaim);
        drop(freeing);
        Ok(())
    }

    /// kmem_cache_shrink, of a cache that is on the list and stays there meanwhile.
    pub(super) fn shrink_historic(&self, cache: &CacheDesc, online: &OnlineCpus<'_>, reclaim: &mut Reclaim) {
        let life = cache.life.lock(&self.platform);
        if *life == CacheState::Live {
            self.drain_historic(cache, online, reclaim);
        }
    }

    /// `drain_cpu_caches`: interrupts the CPUs that are online, each of which empties its slot.
    fn drain_historic(&self, cache: &CacheDesc, online: &OnlineCpus<'_>, reclaim: &mut Reclaim) {
        let cpus = online.set();
        self.tell(cache, CacheStep::Draining { cpus: &cpus });
        Stopped::new(online, &self.cpus, &self.table, &self.platform, &cpus).for_each(|cpu, area| {
            // SAFETY: the CPU is stopped, and the slot is below the area's number of slots.
            if unsafe { area.is_enabled(cache.slot()) } {
                // SAFETY: as above.
                unsafe { self.drain_objects(cache, cpu, area, Destination::Slabs, reclaim) };
                self.platform.step(Step::Slot { cache, cpu, did: SlotStep::Emptied });
            } else if self.cpus.online().contains(cpu) {
                // (A CPU that left since takes no interrupt.)
                self.platform.step(Step::NoSlot { cache, cpu, place: Place::Drain });
            }
        });
        self.reap(cache, reclaim);
    }

    /// `kfree(array[i])` for every CPU that may ever exist.
    fn free_slots_historic(&self, cache: &CacheDesc, online: &OnlineCpus<'_>) {
        let all = CpuSet::first(self.cpus.possible());
        let stopped = Stopped::new(online, &self.cpus, &self.table, &self.platform, &all);
        // The slots are empty: no slab of a cache that gets here has an object in use.
        let mut reclaim = Reclaim::closed();
        stopped.for_each(|cpu, area| {
            // SAFETY: the CPU is stopped, and the slot is below the area's number of slots.
            unsafe {
                if area.is_enabled(cache.slot()) {
                    self.drain_slot(cache, cpu, area, Destination::Slabs, &mut reclaim);
                }
            }
        });
    }

    /// CPU_DEAD and CPU_UP_CANCELED: takes the CPU's slot of every listed cache away. The area stays, for slots of
    /// caches that are off the list are in it.
    pub(crate) fn drain_cpu_historic(&self, online: &OnlineCpus<'_>, cpu: usize, why: CpuEvent) {
        let mut reclaim = Reclaim::closed();
        drop(Stopped::new(online, &self.cpus, &self.table, &self.platform, &CpuSet::of(cpu)));
        let Some(control) = self.cpus.get(cpu) else { return };
        self.registry.for_each(&self.platform, |cache| {
            let life = cache.life.lock(&self.platform);
            if *life != CacheState::Live {
                return;
            }
            let control = control.lock.lock(&self.platform);
            // SAFETY: the control is held, and the slot is below the area's number of slots.
            match control.area.filter(|area| unsafe { area.is_enabled(cache.slot()) }) {
                // SAFETY: the control is held, and the CPU, which is not online, was fenced off above.
                Some(area) => unsafe { self.drain_slot(cache, cpu, area, Destination::Depot, &mut reclaim) },
                None if why == CpuEvent::Drained => self.platform.step(Step::NoSlot { cache, cpu, place: Place::Dead }),
                None => {}
            }
        });
    }

    /// A miss where there is no slot: an object by way of depot and slabs, and a report if the CPU is one that must
    /// have a slot.
    pub(super) fn miss_historic(&self, cache: &CacheDesc, cpu: usize) {
        if self.cpus.online().contains(cpu) {
            self.platform.step(Step::NoSlot { cache, cpu, place: Place::Miss });
        }
    }
}
