//! What each thread of a storm carries: its random decisions, its counts, and the numbers of its objects.
//!
//! It stands below everything that a thread does, so that caches, modules and the threads' loops can all use it.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use rustix::thread::sched_getcpu;

use super::latency::Latencies;
use super::object::mix;
use super::record::Timeline;
use super::totals::Tally;

/// The context of a thread of the storm.
pub struct WorkerCtx {
    /// The thread's number; workers count from 1, and 0 is the coordinator.
    pub id: u64,
    /// Its decisions, which follow from the seed.
    pub rng: fastrand::Rng,
    /// What it counted.
    pub tally: Tally,
    /// The storm's tag in every pattern.
    pub tag: u64,
    /// How long some of its allocations took.
    pub latencies: Latencies,
    /// The same over time, if the storm is recorded.
    pub(super) timeline: Option<Timeline>,
    sequence: u64,
}

/// One in this many allocations is timed.
const TIMED_ONE_IN: u64 = 16;

/// How many caches could not be destroyed; their names are not used again.
static RETIRED: AtomicU64 = AtomicU64::new(0);

impl WorkerCtx {
    /// The context of thread `id` in the storm of `seed`.
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            rng: fastrand::Rng::with_seed(mix(seed.wrapping_add(mix(id)))),
            tally: Tally::default(),
            tag: mix(seed ^ 0x6b6d_656d),
            latencies: Latencies::default(),
            timeline: None,
            sequence: id << 36, // 48 bits: 2^11 threads with 2^36 objects each
        }
    }

    /// A number that no other allocation of the storm has.
    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Does allocation `sequence`, and times it if its turn has come.
    pub fn timed<R>(&mut self, sequence: u64, alloc: impl FnOnce() -> R) -> R {
        if !sequence.is_multiple_of(TIMED_ONE_IN) {
            return alloc();
        }
        let before = Instant::now();
        let answer = alloc();
        let took = before.elapsed();
        self.latencies.record(took);
        if let Some(timeline) = &mut self.timeline {
            timeline.record(before, took);
        }
        answer
    }

    /// The CPU that the thread is on, or was a moment ago.
    pub fn cpu(&self) -> usize {
        sched_getcpu()
    }

    /// A suffix that keeps names different from those of caches that could not be destroyed.
    pub fn suffix(&self) -> String {
        match RETIRED.load(Relaxed) {
            0 => String::new(),
            generation => format!(".{generation}"),
        }
    }

    /// A cache could not be destroyed, so its name is taken from now on.
    pub fn retire_name(&self) {
        RETIRED.fetch_add(1, Relaxed);
    }
}
