//! Fencing stopped CPUs, by proxy if possible.
//!
//! A fence from afar interrupts its CPU, which costs the thread that runs there microseconds. But a thread that
//! allocates or frees there misses within nanoseconds, because it finds the empty area. On a platform that keeps
//! sections apart by aborting a preempted one, the fact that this thread runs there now ends the sections of all others
//! ([`fence_here`](crate::percpu::Sections::fence_here)). So its miss does what the interrupt would have done, if it
//! reports so: the thread is the *proxy* of the thread that stopped the CPU.
//!
//! ```text
//! who stops CPU 1                            a thread on CPU 1
//! TABLE[1] = EMPTY
//! question: 6 -> 7                           a section misses
//! looks: 7                                   question is 7, which is odd: asked
//! looks: 7                                   fence_here(1): it is on CPU 1, after TABLE[1] = EMPTY
//! looks: 8, answered: the area is private    question: 7 -> 8
//! ```
//! A thread that sees the question sees the empty area (release, acquire), so the proxy fences every section of before.
//! A thread that sees the answer sees what these sections committed. Each question has a number of its own, so that an
//! answer which comes too late, when the CPU was fenced from afar and is stopped again, answers nothing. The model
//! `proxies::a_drain_by_proxy` runs all of it, and `a_proxy_that_is_elsewhere` must fail.
//!
//! A thread that stops CPUs looks a few times only. On a CPU where no thread allocates there is no answer, and a fence
//! from afar costs little there.

use super::{CpuSet, Cpus};
use crate::host::Host;
use crate::percpu::Sections;
use crate::sync::{AtomicUsize, Ordering};

/// Whether a thread asks if a CPU's sections are over: an odd number while it asks, the next even number once it is
/// answered.
#[derive(Debug)]
pub struct Question(AtomicUsize);

impl Question {
    /// Not asked.
    pub fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Asks. The caller holds the CPU's control, and has withdrawn its area.
    pub fn ask(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Whether it was answered. If so, all sections that began before it was asked are over.
    pub fn is_answered(&self) -> bool {
        self.0.load(Ordering::Acquire).is_multiple_of(2)
    }

    /// Withdraws the question. Same caller as [`ask`](Self::ask).
    pub fn settle(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).next_multiple_of(2), Ordering::Relaxed);
    }

    /// Answers, if it is asked and `fence_here` fences the CPU.
    #[inline]
    pub fn answer(&self, fence_here: impl FnOnce() -> bool) {
        let number = self.0.load(Ordering::Acquire);
        if !number.is_multiple_of(2) && fence_here() {
            let _ = self.0.compare_exchange(number, number + 1, Ordering::Release, Ordering::Relaxed);
        }
    }
}

impl Default for Question {
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
        withdrawn.iter().filter_map(|cpu| cpus.get(cpu)).for_each(|cpu| cpu.question.ask());
    }
    for _ in 0..patience {
        if withdrawn.is_empty() {
            return;
        }
        core::hint::spin_loop();
        withdrawn.retain(|cpu| cpus.get(cpu).is_some_and(|cpu| !cpu.question.is_answered()));
    }
    if !withdrawn.is_empty() {
        platform.fence(withdrawn);
        withdrawn.iter().filter_map(|cpu| cpus.get(cpu)).for_each(|cpu| cpu.question.settle());
    }
}
