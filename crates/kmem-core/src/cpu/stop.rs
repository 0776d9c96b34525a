//! Stopping CPUs: their areas become private to the caller, with one fence for all of them.
//!
//! The protocol is that of [`percpu`](crate::percpu): lock the controls in ascending order, withdraw the areas, fence
//! once, work, publish, unlock. Threads on a stopped CPU miss and go to the depot; they never wait for this.
//!
//! Controls are locked in that order, and unlocked in it, so the CPUs that are still stopped are a stretch of the
//! caller's set: two numbers, and no copy of the set.
//!
//! The fence is the caller's own presence, a [proxy](super::proxy)'s, or an interrupt.

use super::proxy::fence;
use super::{CpuSet, CpuState, Cpus, OnlineCpus};
use crate::host::Host;
use crate::percpu::{Area, CpuTable, Sections};

/// Some CPUs are stopped.
///
/// Having it tells you: for each CPU of the set from `from` on and below `to`, you hold its control, no section on it
/// can commit, and its area is yours (I36, I38). Dropping it lets the online ones run again.
#[must_use]
pub(crate) struct Stopped<'a, P: Host + Sections> {
    cpus: &'a Cpus,
    table: &'a CpuTable,
    platform: &'a P,
    set: &'a CpuSet,
    from: usize,
    to: usize,
}

impl<'a, P: Host + Sections> Stopped<'a, P> {
    /// Stops the CPUs of `set` that are possible. Costs one fence if any of them has its area published.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(
        _gate: &OnlineCpus<'_>,
        cpus: &'a Cpus,
        table: &'a CpuTable,
        platform: &'a P,
        set: &'a CpuSet,
    ) -> Self {
        let mut stopped = Self { cpus, table, platform, set, from: 0, to: 0 };
        let mut published = CpuSet::new();
        for cpu in set.iter() {
            let Some(control) = cpus.get(cpu) else { break };
            control.lock.lock_next(platform).leave_locked();
            stopped.to = cpu + 1;
            if table.get(cpu) != table.empty() {
                // SAFETY: the control is held.
                unsafe { table.withdraw(cpu) };
                published.insert(cpu);
            }
        }
        fence(cpus, platform, &mut published);
        stopped
    }

    /// Stops one CPU, if it can be fenced without a system call.
    #[cold]
    pub(crate) fn quietly(
        _gate: &OnlineCpus<'_>,
        cpus: &'a Cpus,
        table: &'a CpuTable,
        platform: &'a P,
        cpu: &'a CpuSet,
    ) -> Option<Self> {
        let mut stopped = Self { cpus, table, platform, set: cpu, from: 0, to: 0 };
        let number = cpu.iter().next()?;
        cpus.get(number)?.lock.lock_next(platform).leave_locked();
        stopped.to = number + 1;
        if table.get(number) == table.empty() {
            return Some(stopped);
        }
        // SAFETY: the control is held.
        unsafe { table.withdraw(number) };
        // If the CPU is not fenced this is dropped, and the CPU runs again.
        platform.fence_quietly(number).then_some(stopped)
    }

    /// Calls `work` with each CPU and its private area, and lets the CPU run again after it. A CPU on which nothing was
    /// ever cached has no area.
    #[cold]
    pub(crate) fn for_each(self, mut work: impl FnMut(usize, Area)) {
        self.for_each_place(|cpu, area| work(cpu, *area));
    }

    /// The same for work that may replace the area by another one, which holds what the old one held.
    #[cold]
    pub(crate) fn for_each_place(mut self, mut work: impl FnMut(usize, &mut Area)) {
        let (set, to) = (self.set, self.to);
        for cpu in set.iter().take_while(|cpu| *cpu < to) {
            let Some(control) = self.cpus.get(cpu) else { break };
            // SAFETY: the control is held, by a guard that `new` kept; this one is kept again.
            let guard = unsafe { control.lock.adopt(self.platform) };
            let area = guard.area;
            guard.leave_locked();
            if let Some(mut area) = area {
                work(cpu, &mut area);
                // SAFETY: as above.
                let mut guard = unsafe { control.lock.adopt(self.platform) };
                guard.area = Some(area);
                guard.leave_locked();
            }
            self.from = cpu + 1;
            self.resume(cpu);
        }
    }

    /// Lets a CPU run again. It is no longer counted as stopped, and its control is held.
    fn resume(&self, cpu: usize) {
        if let Some(control) = self.cpus.get(cpu) {
            // SAFETY: the control is held, by a guard that `new` kept.
            let guard = unsafe { control.lock.adopt(self.platform) };
            if let (CpuState::Online, Some(area)) = (guard.state(), guard.area) {
                // SAFETY: the control is held, and the area is the CPU's.
                unsafe { self.table.publish(cpu, area) };
            }
        }
    }
}

impl<P: Host + Sections> Drop for Stopped<'_, P> {
    fn drop(&mut self) {
        self.set.iter().filter(|cpu| (self.from..self.to).contains(cpu)).for_each(|cpu| self.resume(cpu));
    }
}
