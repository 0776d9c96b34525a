//! For how many CPUs it is worth to cache, and that no more is cached than that.
//!
//! A process may be allowed to run on sixty-four CPUs and be given the time of two, or have one thread: then it visits
//! many CPUs and leaves something on each. So what is cached is bounded by the least of three: CPUs that it may run on,
//! its quota (`cpu.max`, or `cpu.cfs_quota_us` of version 1) rounded up, and its threads. Beyond the bound the CPUs
//! that hold least are emptied, as many as there are beyond that number, and depots go back to their slabs.

use kmem_core::Engine;
use kmem_core::cpu::{CpuSet, MAX_CPUS};

use super::cgroup::{each_group, number, number_after};
use super::threads;
use super::unavailable::{Unavailable, UnavailableSet};
use crate::platform::Linux;

/// Bytes that slots and depots may hold for each CPU of the budget. A CPU that is busy with every
/// size holds less.
const BYTES_PER_CPU: usize = 16 << 20;
/// Turns between two looks at the quota, which hardly ever changes.
const EACH: u32 = 16;

/// The CPU budget: how many CPUs the process can use at once.
pub(crate) struct CpuBudget {
    cpus: usize,
    quota: Option<usize>,
    turns: u32,
}

impl CpuBudget {
    pub(crate) const fn new() -> Self {
        Self { cpus: 0, quota: None, turns: 0 }
    }

    /// As of the last look; 0: none was taken yet.
    pub(crate) fn cpus(&self) -> usize {
        self.cpus
    }

    /// Looks up the budget anew. `allowed`: the CPUs that it may run on, none where that is not known.
    #[cold]
    pub(crate) fn look(&mut self, allowed: &CpuSet, unavailable: &mut UnavailableSet) {
        if self.turns.is_multiple_of(EACH) {
            let (known, quota) = quota();
            self.quota = quota;
            unavailable.set(Unavailable::Cgroup, !known);
        }
        self.turns = self.turns.wrapping_add(1);
        let allowed = Some(allowed.len()).filter(|cpus| *cpus > 0);
        let threads = threads::count();
        let least = [allowed, self.quota, threads].into_iter().flatten().min();
        self.cpus = least.unwrap_or(MAX_CPUS).max(1);
    }

    /// Releases what is cached beyond the bound, except on the CPUs of `spared`.
    #[cold]
    pub(crate) fn hold(&self, engine: &Engine<Linux>, spared: &CpuSet) {
        let limit = self.cpus.saturating_mul(BYTES_PER_CPU);
        let (in_slots, in_depots) = engine.cached_bytes();
        if in_slots + in_depots <= limit {
            return;
        }
        let _ = engine.reap_depots();
        if in_slots > limit {
            let surplus = self.surplus(engine.active_cpus(), spared, |cpu| engine.cached_on(cpu).bytes);
            let _ = engine.drain_cpus(&surplus);
        }
    }

    /// The CPUs that hold least, as many of the `active` as there are beyond the budget; of the `spared` none.
    fn surplus(&self, active: CpuSet, spared: &CpuSet, held: impl Fn(usize) -> usize) -> CpuSet {
        let mut surplus = active;
        for _ in 0..self.cpus {
            let Some(fullest) = surplus.iter().max_by_key(|cpu| held(*cpu)) else { break };
            surplus.remove(fullest);
        }
        surplus.iter().filter(|cpu| !spared.contains(*cpu)).collect()
    }
}

/// Whether there are groups with a quota at all, and the least quota of the process's groups, in whole CPUs.
fn quota() -> (bool, Option<usize>) {
    let mut least = None;
    let mut note = |text: &[u8], period: u64| {
        let cpus = number(text).map(|quota| (quota.div_ceil(period.max(1)) as usize).max(1));
        least = [least, cpus].into_iter().flatten().min();
    };
    // "200000 100000", or "max 100000".
    let v2 = each_group(b"", b"cpu.max", |text, _| {
        note(text, number_after(text, b" ").unwrap_or(100_000));
        true
    });
    let mut period = 100_000;
    each_group(b"cpu", b"cpu.cfs_period_us", |text, _| {
        period = number(text).unwrap_or(period);
        false
    });
    // A number of microseconds, or -1.
    let v1 = each_group(b"cpu", b"cpu.cfs_quota_us", |text, _| {
        note(text, period);
        true
    });
    (v1 || v2, least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surplus_are_the_cpus_that_hold_least_and_no_isolated_one() {
        let budget = CpuBudget { cpus: 2, quota: None, turns: 0 };
        let held = |cpu: usize| [40, 10, 30, 20, 5][cpu];
        let surplus =
            |spared: &CpuSet| budget.surplus(CpuSet::first(5), spared, held).iter().collect::<std::vec::Vec<_>>();
        assert_eq!(surplus(&CpuSet::new()), [1, 3, 4]);
        assert_eq!(surplus(&CpuSet::of(3)), [1, 4]);
    }
}
