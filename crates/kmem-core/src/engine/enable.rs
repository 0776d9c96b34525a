//! Enabling a slot: giving one CPU a magazine of one cache.
//!
//! The rule is one sentence: *a slot is enabled only while its cache is live and its CPU is online or prepared*, both
//! looked at under their locks. The cache's life lock keeps a destroy from beginning in between (I14, I15), the CPU's
//! control a transition (I36).

use crate::cache::{CacheDesc, CacheState};
use crate::cpu::{Control, CpuSet, CpuState};
use crate::engine::Engine;
use crate::percpu::Area;
use crate::platform::{Platform, SlotStep, Step};

impl<P: Platform> Engine<P> {
    /// Enables the slot of `cache` on `cpu` for a thread that missed there, if that needs no waiting.
    pub(super) fn try_enable(&self, cache: &CacheDesc, cpu: usize) -> bool {
        let Some(control) = self.cpus.get(cpu) else {
            return false;
        };
        let Some(life) = cache.life.try_lock(&self.platform) else {
            return false;
        };
        if *life != CacheState::Live {
            return false;
        }
        let Some(mut control) = control.lock.try_lock(&self.platform) else {
            return false;
        };
        if control.state() != CpuState::Online {
            return false;
        }
        // SAFETY: both locks are held, the control is the CPU's.
        unsafe { self.area_of(&mut control, cpu).is_some_and(|area| self.enable_slot(cache, cpu, area)) }
    }

    /// Enables the slots of `cache` on all of `cpus`. After a failure, those that were enabled before it stay so.
    pub(super) fn enable_on(&self, cache: &CacheDesc, cpus: &CpuSet) -> bool {
        cpus.iter().all(|cpu| self.enable_waiting(cache, cpu))
    }

    /// Enables the slot of `cache` on `cpu`, which has an area or gets one, and waits for its locks. Returns `true`
    /// also if the slot must not be enabled: a dying cache and a CPU that is not coming up are no failure (I15).
    pub(super) fn enable_waiting(&self, cache: &CacheDesc, cpu: usize) -> bool {
        let Some(control) = self.cpus.get(cpu) else {
            return true;
        };
        let life = cache.life.lock(&self.platform);
        if *life != CacheState::Live {
            return true;
        }
        let mut control = control.lock.lock(&self.platform);
        if !matches!(control.state(), CpuState::Online | CpuState::Prepared) {
            return true;
        }
        // SAFETY: both locks are held, the control is the CPU's.
        unsafe { self.area_of(&mut control, cpu).is_some_and(|area| self.enable_slot(cache, cpu, area)) }
    }

    /// The CPU's area, or a new one, published if the CPU is online; `None` if there is no memory.
    ///
    /// # Safety
    /// The control is that of the CPU.
    pub(super) unsafe fn area_of(&self, control: &mut Control, cpu: usize) -> Option<Area> {
        if let Some(area) = control.area {
            return Some(area);
        }
        let area = Area::map(&self.platform, self.table.width())?;
        if control.state() == CpuState::Online {
            // SAFETY: the CPU's control is held; the area is new, and as wide as the table says.
            unsafe { self.table.publish(cpu, area) };
        }
        control.area = Some(area);
        Some(area)
    }

    /// Gives the slot a magazine, if it has none. Returns `false` if there is no memory.
    ///
    /// # Safety
    /// The caller holds the cache's life lock (it is live) and the CPU's control (it is online or prepared), and the
    /// area is the CPU's.
    pub(super) unsafe fn enable_slot(&self, cache: &CacheDesc, cpu: usize, area: Area) -> bool {
        // SAFETY: the control is held, so the area is mapped; where it is not wide enough for the slot, both return
        // false.
        let enabled = unsafe {
            area.is_enabled(cache.slot()) || area.enable(cache.slot(), cache.capacity(), &self.meta, &self.platform)
        };
        if enabled {
            cache.enabled_on.insert(cpu);
            cache.rest.wake_after_enabling();
            self.platform.step(Step::Slot { cache, cpu, did: SlotStep::Enabled });
        }
        enabled
    }
}
