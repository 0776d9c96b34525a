//! Ageing: slots that were not used for a period are drained, and their magazines freed, without any traffic.
//!
//! A CPU that a process no longer runs on keeps what it cached, and so does a busy CPU for a size that is no longer
//! requested: no miss will ever look there. So the embedder calls [`Engine::age`] once a *period*. It looks at the
//! cursor of every enabled slot, from any CPU and without disturbing any thread. A slot whose cursor is where it was a
//! period ago is *still*: its objects go to the depot, where other CPUs find them, and its magazine's memory is freed.
//! When the slot is used again it is enabled as at first.
//!
//! A slot can be in use and look still: pairs of alloc and free leave the cursor where it was. Then its user pays one
//! miss a period, which takes the same objects back out of the depot.
//!
//! # Who is disturbed
//! Only CPUs with a still slot are stopped, all CPUs of a group of caches with one fence. A still slot is drained and
//! disabled, so a CPU that stays idle is never stopped twice. The caller names CPUs that must not be disturbed at all
//! (isolated ones).
//!
//! ```text
//! a period ago:  look: the cursor is at X         |
//! now:           look: it is at X: still          |  thread on CPU 1: pop, the cursor is at X - 8
//!                stop CPU 1 (withdraw, fence)     |  from here on a section on CPU 1 misses
//!                look again: not at X: leave it   |
//! ```
//! The look notes beside the slot that it found it still, so that a group need not remember the slots: it is on the
//! stack of its caller, which may be small.
//!
//! The second look is at a private area, so what it finds stays so (I36, I38). The test
//! `a_slot_that_moved_after_the_look_is_left_alone` fails without it.

use core::ptr::NonNull;

use super::Destination;
use crate::cache::CacheDesc;
use crate::cache::Pinned;
use crate::cpu::{CpuSet, Mistake, OnlineCpus, Stopped};
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab::Reclaim;

/// Caches whose slots are drained after one fence: it bounds the time for which a CPU is stopped (I41).
const AT_ONCE: usize = 32;

/// What a period of ageing did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "it says whether another period is worth its wake-up"]
pub struct Aged {
    /// Slots that were drained and disabled.
    pub slots: usize,
    /// Whether slots are enabled that a later period may drain. If not, none will be until caches are used again.
    pub left: bool,
}

/// Which slots of a stopped CPU are drained, and how it is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// All that are enabled.
    All,
    /// Those that the look found still, and that still are when their CPU is stopped.
    Still,
    /// The same on the CPU that the thread is on, if it can be stopped without a system call.
    StillHere,
}

/// Caches with slots to be drained, each pinned, and the CPUs of these slots.
struct Group<'a, P: Platform> {
    engine: &'a Engine<P>,
    caches: [Option<NonNull<CacheDesc>>; AT_ONCE],
    len: usize,
    cpus: CpuSet,
}

impl<'a, P: Platform> Group<'a, P> {
    fn new(engine: &'a Engine<P>) -> Self {
        Self { engine, caches: [None; AT_ONCE], len: 0, cpus: CpuSet::new() }
    }

    #[cold]
    fn add(&mut self, cache: Pinned<'a, P>) {
        self.caches[self.len] = Some(cache.leave_pinned());
        self.len += 1;
    }

    fn caches(&self) -> impl Iterator<Item = &CacheDesc> {
        // SAFETY: the group keeps them pinned, so they are not freed (I19).
        self.caches[..self.len].iter().flatten().map(|cache| unsafe { cache.as_ref() })
    }

    fn clear(&mut self) {
        for cache in self.caches[..core::mem::take(&mut self.len)].iter().flatten() {
            // SAFETY: the pin was kept by `add`, and is forgotten here.
            drop(unsafe { self.engine.registry.adopt(&self.engine.platform, *cache) });
        }
        self.cpus.retain(|_| false);
    }
}

impl<P: Platform> Drop for Group<'_, P> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<P: Platform> Engine<P> {
    /// Ends a period: drains the slots that were not used in it, except on the CPUs of `spare`.
    ///
    /// One thread at a time calls this, with no lock held. It waits for no transition: during one, or inside a hotplug
    /// callback, it does nothing. It runs none of the program's code: slabs that become empty stay with their caches.
    /// Costs O(caches used lately + enabled slots), and a fence for each 32 caches that have a still slot.
    pub fn age(&self, spare: &CpuSet) -> Aged {
        if let Some(past) = self.past(&[Mistake::AgesWhereItRuns]) {
            return past.age_here_only();
        }
        self.drain_slots(How::Still, |cache, cpu| self.look(cache, cpu) && !spare.contains(cpu))
    }

    /// The same for the CPU that the calling thread is on, and without a system call.
    pub fn age_here(&self) -> Aged {
        let here = self.platform.current_cpu();
        self.drain_slots(How::StillHere, |cache, cpu| cpu == here && self.look(cache, cpu))
    }

    /// Drains all slots of these CPUs, in use or not; otherwise as [`age`](Self::age).
    pub fn drain_cpus(&self, cpus: &CpuSet) -> Aged {
        self.drain_slots(How::All, |_, cpu| cpus.contains(cpu))
    }

    /// Drains the enabled slots that are `wanted`.
    #[cold]
    fn drain_slots(&self, how: How, wanted: impl Fn(&CacheDesc, usize) -> bool) -> Aged {
        let Some(gate) = self.gate.try_read(&self.platform) else {
            return Aged { slots: 0, left: true };
        };
        let online = gate.online(&self.cpus);
        let mut group = Group::new(self);
        let (mut after, mut enabled, mut slots) = (Some(0), 0, 0);
        while let Some(last) = after {
            after = self.gather(last, &mut group, &mut enabled, &wanted);
            if group.len == AT_ONCE {
                slots += self.drain_group(&online, &group, how);
                group.clear();
            }
        }
        slots += self.drain_group(&online, &group, how);
        Aged { slots, left: enabled > slots }
    }

    /// Adds the next cache after the one of number `after` to the group, if slots of it are wanted, and counts those
    /// that are enabled. Returns the cache's number; `None`: there is no further one. Out of line, so that what it
    /// needs of the stack is not below that of a drain.
    #[inline(never)]
    fn gather<'a>(
        &'a self,
        after: u32,
        group: &mut Group<'a, P>,
        enabled: &mut usize,
        wanted: impl Fn(&CacheDesc, usize) -> bool,
    ) -> Option<u32> {
        let cache = self.registry.pin_next_awake(&self.platform, after)?;
        let (number, mut is_meant) = (cache.id().index, false);
        for cpu in cache.each_holder() {
            *enabled += 1;
            if wanted(&cache, cpu) {
                group.cpus.insert(cpu);
                is_meant = true;
            }
        }
        if is_meant {
            group.add(cache);
        }
        Some(number)
    }

    /// Looks at one slot.
    fn look(&self, cache: &CacheDesc, cpu: usize) -> bool {
        let Some(control) = self.cpus.get(cpu) else { return false };
        let control = control.lock.lock(&self.platform);
        // SAFETY: the control is held, so the area stays mapped.
        control.area.is_some_and(|area| unsafe { area.look(cache.slot()) })
    }

    /// Stops the group's CPUs, looks again if only still slots are meant, and drains the slots. Returns how many these
    /// were.
    #[cold]
    #[inline(never)]
    fn drain_group(&self, online: &OnlineCpus<'_>, group: &Group<'_, P>, how: How) -> usize {
        if group.cpus.is_empty() {
            return 0;
        }
        let (cpus, table, platform) = (&self.cpus, &self.table, &self.platform);
        let stopped = match how {
            How::StillHere => Stopped::quietly(online, cpus, table, platform, &group.cpus),
            _ => platform.can_fence().then(|| Stopped::new(online, cpus, table, platform, &group.cpus)),
        };
        let Some(stopped) = stopped else { return 0 };
        let mut slots = 0;
        stopped.for_each(|cpu, area| {
            for cache in group.caches() {
                let slot = cache.slot();
                // SAFETY: the area is private.
                let is_meant = unsafe { if how == How::All { area.is_enabled(slot) } else { area.is_still(slot) } };
                if is_meant {
                    // SAFETY: the CPU is stopped.
                    unsafe { self.drain_slot(cache, cpu, area, Destination::Depot, &mut Reclaim::closed()) };
                    slots += 1;
                }
            }
        });
        slots
    }
}
