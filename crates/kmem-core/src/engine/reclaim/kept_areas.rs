//! The area of a CPU that went down is kept for a while, for CPUs that go often come back.
//!
//! Making an area is a mapping and the faults of its first touch; ending one makes the kernel interrupt every CPU that
//! runs the process, to forget its addresses. Neither happens where the CPU is back within a period of
//! [decay](Engine::decay): its area waits in its control, with every slot disabled, as a new one. So it cannot be told
//! from a new one, whatever the state machine does meanwhile (I22, I23), and [`validate`](Engine::validate) sees to that.
//!
//! Only an engine whose decay is called keeps areas; without it they go at once. What is kept is a few pages a CPU. (Who
//! calls decay may pause while there is nothing to do, and goes on with the next slow path; until then a CPU that went
//! down by name keeps its area.)

use crate::engine::Engine;
use crate::platform::Platform;

use crate::cpu::CpuState;

/// Calls of decay that an area is kept for: at least one whole period.
pub(crate) const PERIODS: u8 = 2;

impl<P: Platform> Engine<P> {
    /// Keeps the area of a CPU that was emptied, or gives it back.
    ///
    /// # Safety
    /// The caller holds the gate; the CPU is not online, its area was withdrawn and fenced, and its slots are empty and
    /// disabled (I36).
    pub(crate) unsafe fn keep_or_unmap_area(&self, cpu: usize) {
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

    /// To be called at the end of a transition: if nobody calls decay any more since, its area goes now.
    pub(crate) fn unmap_areas_without_decay(&self) {
        if !self.heap.expects_decay(&self.platform) {
            self.unmap_kept_areas(0);
        }
    }

    /// Gives back the areas that were kept for so many calls, this one among them; answers whether others are left.
    #[cold]
    pub(crate) fn unmap_kept_areas(&self, periods: u8) -> bool {
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
                // SAFETY: as above: its CPU was offline, so nobody enabled a slot or published it since it was put away.
                unsafe { area.unmap(&self.platform) };
            }
        }
        left
    }
}
