//! Taking a slot from a CPU that may be in a section there: withdrawn, and not fenced.
//!
//! ```text
//! a thread on CPU 1                           here
//! pop: reads the newest object                TABLE[1] = EMPTY, and no fence
//!                                             takes the same object
//! commits: the object is handed out           hands it out again
//! ```
//! What was relied on instead: that a thread which is pinned to a CPU is alone there, that a CPU which is gone runs
//! nothing any longer, that a lock of the writers is enough.

use super::Past;
use crate::cache::CacheDesc;
use crate::cpu::{CpuSet, CpuState};
use crate::engine::hotplug::Cpu;
use crate::engine::reclaim::Destination;
use crate::percpu::Area;
use crate::platform::Platform;
use crate::slab::Reclaim;

impl<P: Platform> Past<'_, P> {
    /// Withdraws the area of a CPU that goes.
    pub(in crate::engine) fn withdraw(&self, cpu: Cpu<'_>) {
        let engine = self.engine;
        let control = cpu.control.lock.lock(&engine.platform);
        // SAFETY: the control is held. That no section uses the area later is what is wrong here.
        unsafe { engine.table.withdraw(cpu.number) };
        drop(control);
        self.slip();
    }

    /// Drains the slots of running CPUs.
    pub(in crate::engine) fn drain_running(&self, cache: &CacheDesc, holders: &CpuSet, reclaim: &mut Reclaim) {
        self.on_running(holders, |cpu, area| {
            // SAFETY: the control is held, and the area is withdrawn. That it is private is what is wrong here.
            unsafe { self.engine.drain_slot(cache, cpu, area, Destination::Slabs, reclaim) };
        });
    }

    /// Calls `work` with each CPU and its area, withdrawn and not fenced.
    pub(super) fn on_running(&self, cpus: &CpuSet, mut work: impl FnMut(usize, Area)) {
        let engine = self.engine;
        for cpu in cpus.iter() {
            let Some(control) = engine.cpus.get(cpu) else { break };
            let control = control.lock.lock(&engine.platform);
            let Some(area) = control.area else { continue };
            // SAFETY: the control is held.
            unsafe { engine.table.withdraw(cpu) };
            self.slip();
            work(cpu, area);
            if control.state() == CpuState::Online {
                // SAFETY: the control is held, and the area is the CPU's.
                unsafe { engine.table.publish(cpu, area) };
            }
        }
    }
}
