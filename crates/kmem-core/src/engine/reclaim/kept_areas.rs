//! The area of a CPU that went down is kept for a while, because CPUs that go often come back.
//!
//! Making an area costs a mapping and the faults of its first touch; ending one makes the kernel interrupt every CPU
//! that runs the process, to forget its addresses. Neither happens if the CPU is back within a period of
//! [decay](Engine::decay): its area waits in its control, with every slot disabled, like a new one. So it cannot be
//! told from a new one, whatever the state machine does meanwhile (I22, I23), and [`validate`](Engine::validate) checks
//! that.
//!
//! Only an engine whose decay is called keeps areas; without decay they are unmapped at once. What is kept is a few
//! pages for each CPU. (An embedder may pause its calls of decay while there is nothing to do, and resume them with the
//! next slow path; until then a CPU that went down by name keeps its area.)

use crate::cpu::CpuState;
use crate::engine::Engine;
use crate::platform::Platform;

/// How many calls of decay an area is kept for: at least one whole period.
pub(super) const PERIODS: u8 = 2;

impl<P: Platform> Engine<P> {
    /// Keeps the area of a CPU that was drained, or unmaps it.
    ///
    /// # Safety
    /// The caller holds the gate; the CPU is not online, its area was withdrawn and fenced, and its slots are empty and
    /// disabled (I36).
    pub(in crate::engine) unsafe fn keep_or_unmap_area(&self, cpu: usize) {
        let Some(control) = self.cpus.get(cpu) else { return };
        if self.heap.expects_decay(&self.platform) {
            let mut control = control.lock.lock(&self.platform);
            if control.area.is_some() {
                control.kept_for = 0;
                self.cpus.kept.insert(cpu);
            }
            return;
        }
        let area = control.lock.lock(&self.platform).area.take();
        if let Some(area) = area {
            // SAFETY: the caller's promise, and its control no longer names the area.
            unsafe { area.unmap(&self.platform) };
        }
    }

    /// Called at the end of a transition: if decay is no longer called, the area is unmapped now.
    pub(in crate::engine) fn unmap_areas_without_decay(&self) {
        if !self.heap.expects_decay(&self.platform) {
            self.unmap_kept_areas(0);
        }
    }

    /// Unmaps the areas that were kept for so many calls, including this one. Returns whether others are left.
    #[cold]
    pub(super) fn unmap_kept_areas(&self, periods: u8) -> bool {
        let mut left = false;
        for cpu in self.cpus.kept.iter() {
            let Some(control) = self.cpus.get(cpu) else { break };
            let mut control = control.lock.lock(&self.platform);
            control.kept_for = control.kept_for.saturating_add(1);
            // One that is not offline is on its way down, or up.
            if control.state() != CpuState::Offline || control.kept_for < periods {
                left = true;
                continue;
            }
            self.cpus.kept.remove(cpu);
            let area = control.area.take();
            drop(control);
            if let Some(area) = area {
                // SAFETY: as above; the CPU was offline, so no thread has enabled a slot or published the area since it
                // was put away.
                unsafe { area.unmap(&self.platform) };
            }
        }
        left
    }
}
