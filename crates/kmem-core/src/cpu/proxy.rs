//! Fencing stopped CPUs, by proxy if possible.
//!
//! A fence from afar interrupts its CPU, which costs the thread that runs there microseconds. But a thread that
//! allocates or frees there misses within nanoseconds, because it finds the empty area. On a platform that keeps
//! sections apart by aborting a preempted one, the fact that this thread runs there now ends the sections of all others
//! ([`fence_here`](crate::percpu::Sections::fence_here)). So its miss does what the interrupt would have done, if it
//! reports so: the thread is the *proxy* of the thread that stopped the CPU.
//!
//! ```text
//! thread that stops CPU 1                    a thread on CPU 1
//! TABLE[1] = EMPTY
//! request: 6 -> 7                            a section misses
//! polls: 7                                   the request is 7, which is odd: asked
//! polls: 7                                   fence_here(1): it is on CPU 1, after TABLE[1] = EMPTY
//! polls: 8, reported: the area is private    request: 7 -> 8
//! ```
//! A thread that sees the request sees the empty area (release, acquire), so the proxy fences every section that began
//! before. A thread that sees the report sees what these sections committed. Each request has a number of its own, so a
//! report that comes too late, when the CPU was fenced from afar and is stopped again, changes nothing. The model
//! `proxies::a_drain_by_proxy` runs all of it, and `a_proxy_that_is_elsewhere` must fail.
//!
//! A thread that stops CPUs polls a few times only. On a CPU where no thread allocates no report comes, and a fence
//! from afar costs little there.

use super::{CpuSet, Cpus};
use crate::host::Host;
use crate::percpu::Sections;
use crate::sync::{AtomicUsize, Ordering};

/// Whether a thread asks if a CPU's sections are over: an odd number while it asks, the next even number once that was
/// reported.
#[derive(Debug)]
pub struct Request(AtomicUsize);

impl Request {
    /// Not asked.
    pub fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Asks. The caller holds the CPU's control, and has withdrawn its area.
    pub fn ask(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Whether it was reported. If so, all sections that began before it was asked are over.
    pub fn is_reported(&self) -> bool {
        self.0.load(Ordering::Acquire).is_multiple_of(2)
    }

    /// Withdraws the request. Same caller as [`ask`](Self::ask).
    pub fn settle(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).next_multiple_of(2), Ordering::Relaxed);
    }

    /// Reports, if it is asked and `fence_here` fences the CPU.
    #[inline]
    pub fn report(&self, fence_here: impl FnOnce() -> bool) {
        let number = self.0.load(Ordering::Acquire);
        if !number.is_multiple_of(2) && fence_here() {
            let _ = self.0.compare_exchange(number, number + 1, Ordering::Release, Ordering::Relaxed);
        }
    }
}

impl Default for Request {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until no section that began before can still commit on these CPUs, whose controls the caller holds and whose
/// areas it has withdrawn. Leaves in the set those that had to be fenced from afar.
pub(crate) fn fence<P: Host + Sections>(cpus: &Cpus, platform: &P, withdrawn: &mut CpuSet) {
    withdrawn.retain(|cpu| !platform.fence_here(cpu));
    let patience = platform.patience();
    if patience > 0 {
        withdrawn.iter().filter_map(|cpu| cpus.get(cpu)).for_each(|cpu| cpu.request.ask());
    }
    for _ in 0..patience {
        if withdrawn.is_empty() {
            return;
        }
        core::hint::spin_loop();
        withdrawn.retain(|cpu| cpus.get(cpu).is_some_and(|cpu| !cpu.request.is_reported()));
    }
    if !withdrawn.is_empty() {
        platform.fence(withdrawn);
        withdrawn.iter().filter_map(|cpu| cpus.get(cpu)).for_each(|cpu| cpu.request.settle());
    }
}
