//! The order of 2004, which a simulator may ask for: see [`Defences`](crate::platform::Defences).
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

use crate::cache::{CacheDesc, CacheId, CacheState};
use crate::cpu::{CpuEvent, CpuSet, Mistake, OnlineCpus, Stopped};
use crate::engine::Engine;
use crate::engine::destroy::Freeing;
use crate::engine::reclaim::Destination;
use crate::error::{CreateError, DestroyError};
use crate::platform::{CacheStep, Place, Platform, SlotStep, Step};
use crate::slab::Reclaim;

impl<P: Platform> Engine<P> {
    /// The order of 2004, on a simulator that asks for it: it takes over the operation that asks. `None`, a constant,
    /// everywhere else.
    #[inline(always)]
    pub(in crate::engine) fn order_of_2004(&self) -> Option<Order<'_, P>> {
        (!self.platform.keeps_listed()).then_some(Order { engine: self })
    }
}

/// The operations of an engine in the order of 2004.
pub(in crate::engine) struct Order<'a, P: Platform> {
    engine: &'a Engine<P>,
}

impl<P: Platform> Order<'_, P> {
    /// kmem_cache_create: `enable_cpucache`, then the list. On an error the descriptor is as it was.
    ///
    /// # Safety
    /// As for [`Registry::list`](crate::cache::Registry::list).
    pub(in crate::engine) unsafe fn list(
        &self,
        desc: NonNull<CacheDesc>,
        online: &OnlineCpus<'_>,
    ) -> Result<CacheId, CreateError> {
        let engine = self.engine;
        // SAFETY: the caller's promise.
        let id = unsafe { engine.registry.assign(&engine.platform, desc)? };
        // SAFETY: the descriptor is valid, and from here on only shared.
        let cache = unsafe { desc.as_ref() };
        let cpus = online.set();
        let made = cpus.iter().all(|cpu| self.enable(cache, cpu));
        engine.tell(cache, CacheStep::SlotsMade { cpus: &cpus });
        // SAFETY: the caller's promise; it has an index.
        let link = || unsafe { engine.registry.link_new(&engine.platform, desc) };
        let ignored = engine.past(&[Mistake::ListsWithoutSlots]).filter(|_| !made).map(|past| past.slip());
        let listed = if made || ignored.is_some() { link() } else { Err(CreateError::NoMemory) };
        if let Err(error) = listed {
            self.free_slots(cache, online);
            engine.registry.recycle(&engine.platform, id);
            return Err(error);
        }
        let mut life = cache.life.lock(&engine.platform);
        *life = CacheState::Live;
        engine.tell(cache, CacheStep::Listed);
        drop(life);
        Ok(id)
    }

    fn enable(&self, cache: &CacheDesc, cpu: usize) -> bool {
        let engine = self.engine;
        let Some(control) = engine.cpus.get(cpu) else { return true };
        let mut control = control.lock.lock(&engine.platform);
        if !engine.cpus.online().contains(cpu) {
            return true;
        }
        // SAFETY: the control is held; this order has no use for the life lock, and falls where its gate is taken away.
        unsafe { engine.area_of(&mut control, cpu).is_some_and(|area| engine.enable_slot(cache, cpu, area)) }
    }

    /// kmem_cache_destroy: off the list, then `drain_cpu_caches`.
    ///
    /// # Safety
    /// As for [`Engine::destroy`].
    pub(in crate::engine) unsafe fn destroy(&self, id: CacheId) -> Result<(), DestroyError> {
        let engine = self.engine;
        let gate = engine.gate.read(&engine.platform).map_err(|_| DestroyError::InsideCallback)?;
        let cache = engine.registry.pin(&engine.platform, id).ok_or(DestroyError::NoSuchCache)?;
        if engine.inside.is_in(&engine.platform, &cache) {
            return Err(DestroyError::InsideItself);
        }
        {
            let mut life = cache.life.lock(&engine.platform);
            if *life != CacheState::Live {
                drop(life);
                return Err(DestroyError::NoSuchCache);
            }
            *life = CacheState::Dying;
            engine.tell(&cache, CacheStep::Unlisted);
        }
        engine.registry.unlist(&cache);
        let mut reclaim = Reclaim::new();
        self.drain(&cache, &gate.online(&engine.cpus), &mut reclaim);
        engine.tell(&cache, CacheStep::Drained);
        let live = engine.objects_in_use(&cache);
        engine.tell(&cache, CacheStep::Checked { live });
        if live > 0 {
            // SAFETY: it was taken off above.
            unsafe { engine.registry.relist(&cache) };
            *cache.life.lock(&engine.platform) = CacheState::Live;
            engine.tell(&cache, CacheStep::Revived);
            drop(gate);
            engine.reclaim(reclaim);
            return Err(DestroyError::Busy { live });
        }
        self.free_slots(&cache, &gate.online(&engine.cpus));
        drop(gate);
        let freeing = Freeing { engine, desc: engine.registry.only_pin(cache), id };
        engine.reclaim(reclaim);
        drop(freeing);
        Ok(())
    }

    /// kmem_cache_shrink, of a cache that is on the list and stays there meanwhile.
    pub(in crate::engine) fn shrink(&self, cache: &CacheDesc) -> Result<usize, DestroyError> {
        let engine = self.engine;
        let gate = engine.gate.read(&engine.platform).map_err(|_| DestroyError::InsideCallback)?;
        let mut reclaim = Reclaim::new();
        let life = cache.life.lock(&engine.platform);
        if *life == CacheState::Live {
            self.drain(cache, &gate.online(&engine.cpus), &mut reclaim);
        }
        drop(life);
        drop(gate);
        Ok(engine.reclaim(reclaim))
    }

    /// `drain_cpu_caches`: interrupts the CPUs that are online, each of which empties its slot.
    fn drain(&self, cache: &CacheDesc, online: &OnlineCpus<'_>, reclaim: &mut Reclaim) {
        let engine = self.engine;
        let cpus = online.set();
        engine.tell(cache, CacheStep::Draining { cpus: &cpus });
        Stopped::new(online, &engine.cpus, &engine.table, &engine.platform, &cpus).for_each(|cpu, area| {
            // SAFETY: the CPU is stopped, and the slot is below the area's number of slots.
            if unsafe { area.is_enabled(cache.slot()) } {
                // SAFETY: as above.
                unsafe { engine.drain_objects(cache, cpu, area, Destination::Slabs, reclaim) };
                engine.platform.step(Step::Slot { cache, cpu, did: SlotStep::Emptied });
            } else if engine.cpus.online().contains(cpu) {
                // (A CPU that left since takes no interrupt.)
                engine.platform.step(Step::NoSlot { cache, cpu, place: Place::Drain });
            }
        });
        engine.reap(cache, reclaim);
    }

    /// `kfree(array[i])` for every CPU that may ever exist.
    fn free_slots(&self, cache: &CacheDesc, online: &OnlineCpus<'_>) {
        let engine = self.engine;
        let all = CpuSet::first(engine.cpus.possible());
        let stopped = Stopped::new(online, &engine.cpus, &engine.table, &engine.platform, &all);
        // The slots are empty: no slab of a cache that gets here has an object in use.
        let mut reclaim = Reclaim::closed();
        stopped.for_each(|cpu, area| {
            // SAFETY: the CPU is stopped, and the slot is below the area's number of slots.
            unsafe {
                if area.is_enabled(cache.slot()) {
                    engine.drain_slot(cache, cpu, area, Destination::Slabs, &mut reclaim);
                }
            }
        });
    }

    /// CPU_DEAD and CPU_UP_CANCELED: takes the CPU's slot of every listed cache away. The area stays, because slots of
    /// caches that are off the list are in it.
    pub(in crate::engine) fn drain_cpu(&self, online: &OnlineCpus<'_>, cpu: usize, why: CpuEvent) {
        let engine = self.engine;
        let mut reclaim = Reclaim::closed();
        drop(Stopped::new(online, &engine.cpus, &engine.table, &engine.platform, &CpuSet::of(cpu)));
        let Some(control) = engine.cpus.get(cpu) else { return };
        engine.registry.for_each(&engine.platform, |cache| {
            let life = cache.life.lock(&engine.platform);
            if *life != CacheState::Live {
                return;
            }
            let control = control.lock.lock(&engine.platform);
            // SAFETY: the control is held, and the slot is below the area's number of slots.
            match control.area.filter(|area| unsafe { area.is_enabled(cache.slot()) }) {
                // SAFETY: the control is held, and the CPU, which is not online, was fenced off above.
                Some(area) => unsafe { engine.drain_slot(cache, cpu, area, Destination::Depot, &mut reclaim) },
                None if why == CpuEvent::Drained => {
                    engine.platform.step(Step::NoSlot { cache, cpu, place: Place::Dead })
                }
                None if engine.past(&[Mistake::CancelCountsOnSlots]).is_some() => {
                    engine.platform.step(Step::NoSlot { cache, cpu, place: Place::Canceled })
                }
                None => {}
            }
        });
    }

    /// A miss where there is no slot: an object by way of depot and slabs, and a report if the CPU is one that must
    /// have a slot. Returns `false`: no slot is made here.
    pub(in crate::engine) fn slot_ready(&self, cache: &CacheDesc, cpu: usize) -> bool {
        let engine = self.engine;
        if engine.cpus.online().contains(cpu) {
            engine.platform.step(Step::NoSlot { cache, cpu, place: Place::Miss });
        }
        false
    }
}
