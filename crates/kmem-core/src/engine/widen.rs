//! Room for the slot of a new cache in every area.
//!
//! ```text
//! the cache is listed    a thread that finds it there finds its slot disabled, also in an area that has no such slot
//! width = more           an area that is made from here on, under its CPU's control, is as wide
//! each CPU in turn       looked at under its control: if its area is not as wide, it is stopped, its area exchanged
//!                        for a wider one that holds the same, and it runs again (I6, I36)
//! sure = more            all areas are as wide; the next creates need not look
//! create returns         only now can a section be asked for the slot
//! ```
//! The gate keeps CPUs from coming up meanwhile. An area that is made without the gate (a thread misses on a CPU that
//! is online and has no area) is made under the CPU's control, either before the look or after the store. Areas at
//! least double, so this happens to a process only a few times.

use crate::cpu::{CpuSet, OnlineCpus, Stopped};
use crate::engine::Engine;
use crate::percpu::SlotIndex;
use crate::platform::Platform;

impl<P: Platform> Engine<P> {
    /// Makes sure that every area has this slot. Returns `false` if there is no memory for that, and some areas may not
    /// have it.
    pub(super) fn widen_areas(&self, online: &OnlineCpus<'_>, slot: SlotIndex) -> bool {
        let Some(width) = self.table.widen_for(slot) else { return true };
        let done = (0..self.cpus.possible()).all(|cpu| self.widen_area(online, cpu, width));
        if done {
            self.table.are_as_wide(width);
        }
        done
    }

    #[cold]
    fn widen_area(&self, online: &OnlineCpus<'_>, cpu: usize, width: usize) -> bool {
        let Some(control) = self.cpus.get(cpu) else { return true };
        // SAFETY: the area is mapped while the control is held.
        let is_narrow = |area: crate::percpu::Area| unsafe { area.width() < width };
        if !control.lock.lock(&self.platform).area.is_some_and(is_narrow) {
            return true;
        }
        let (mut old, mut done) = (None, true);
        let this = CpuSet::of(cpu);
        let stopped = Stopped::new(online, &self.cpus, &self.table, &self.platform, &this);
        stopped.for_each_place(|_, area| {
            // Looked at again: another create may have come first.
            if is_narrow(*area) {
                // SAFETY: the area is private.
                match unsafe { area.widened(&self.platform, width) } {
                    Some(wide) => old = Some(core::mem::replace(area, wide)),
                    None => done = false,
                }
            }
        });
        if let Some(old) = old {
            // SAFETY: the area was withdrawn and fenced, and its control names another one (I36). No lock is held
            // (I34).
            unsafe { old.unmap(&self.platform) };
        }
        done
    }
}
