//! A worker: goes from module to module, loads, visits and unloads.
//!
//! A module stands in a readers-writer lock: any number of workers visit it at a time, one alone loads or
//! unloads it. Workers never wait for each other there; where a lock is taken they go to another module.
//! A worker holds objects only during a visit, so it can attend a meeting between any two.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use super::latency::Latencies;
use super::meeting::Meeting;
use super::module::Module;
use super::object::mix;
use super::record::{Record, Timeline, record};
use super::totals::{Tally, Totals};

/// Where a module may be loaded.
pub type Place = RwLock<Option<Module>>;

/// What a thread of the storm has at hand: its luck, its count, its numbers.
pub struct Hand {
    /// Numbers the thread, from 1 on; 0 is nobody.
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
    timeline: Option<Timeline>,
    sequence: u64,
}

/// One allocation in so many is timed.
const TIMED_ONE_IN: u64 = 16;

/// Names of caches that could not be destroyed are not used again.
static RETIRED: AtomicU64 = AtomicU64::new(0);

impl Hand {
    /// The hand of thread `id` in the storm of `seed`.
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            rng: fastrand::Rng::with_seed(mix(seed.wrapping_add(mix(id)))),
            tally: Tally::default(),
            tag: mix(seed ^ 0x6b6d_656d),
            latencies: Latencies::default(),
            timeline: None,
            sequence: id << 36, // 48 bits: 2^11 threads, 2^36 objects each
        }
    }

    /// A number that no other hand-out of the storm has.
    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Does the allocation that becomes hand-out `sequence`, and times it now and then.
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

    /// What is put behind names, so that they differ from those of caches that would not go.
    pub fn suffix(&self) -> String {
        match RETIRED.load(Relaxed) {
            0 => String::new(),
            generation => format!(".{generation}"),
        }
    }

    /// A cache stayed behind: its name is taken from now on.
    pub fn retire_name(&self) {
        RETIRED.fetch_add(1, Relaxed);
    }
}

/// Everything that the threads of a storm share.
pub struct Shared {
    pub places: Vec<Place>,
    pub totals: Totals,
    pub meeting: Meeting,
    /// CPUs that this process may run on, and that the driver takes down and up.
    pub cpus: Vec<usize>,
    /// What the workers timed; each adds its own at its end.
    pub latencies: Mutex<Latencies>,
}

/// The CPUs that this process may run on and that the engine knows.
pub fn usable_cpus() -> Result<Vec<usize>, String> {
    let info = kmem::info();
    let cpus: Vec<usize> = info.online_cpus.iter().filter(|&cpu| cpu < info.possible_cpus).collect();
    if cpus.is_empty() {
        return Err("this process may run on no CPU that the engine knows: give it one, with taskset".into());
    }
    Ok(cpus)
}

/// Works until the storm is over.
pub fn work(shared: &Shared, mut hand: Hand) {
    hand.timeline = record().map(Record::timeline);
    while !shared.meeting.over() {
        if shared.meeting.called() {
            shared.meeting.attend();
            continue;
        }
        let number = hand.rng.usize(..shared.places.len());
        if !visit(&shared.places[number], &mut hand) {
            renew(&shared.places[number], number, shared, &mut hand);
        }
        shared.totals.add(&mut hand.tally);
    }
    shared.latencies.lock().unwrap_or_else(|e| e.into_inner()).add(&hand.latencies);
    if let (Some(record), Some(timeline)) = (record(), &hand.timeline) {
        record.add(timeline);
    }
}

/// Visits the module of a place. False: there is none, or it is worn out.
fn visit(place: &Place, hand: &mut Hand) -> bool {
    let Ok(guard) = place.try_read() else {
        std::thread::yield_now(); // somebody loads or unloads it
        return true;
    };
    let Some(module) = guard.as_ref().filter(|module| module.admits()) else {
        return false;
    };
    if hand.rng.u32(..256) == 0 {
        visit_by_newcomer(module, hand);
    } else {
        module.visit(hand);
    }
    true
}

/// A visit by a thread that lives no longer than that: what it leaves on its CPU must not depend on it.
fn visit_by_newcomer(module: &Module, hand: &mut Hand) {
    std::thread::scope(|scope| {
        // Where the system has no room for another thread, the visit is ours.
        let _ = std::thread::Builder::new().spawn_scoped(scope, || module.visit(hand));
    });
}

/// Unloads a module that is worn out, or loads one where there is none.
fn renew(place: &Place, number: usize, shared: &Shared, hand: &mut Hand) {
    let Ok(mut guard) = place.try_write() else {
        std::thread::yield_now();
        return;
    };
    match guard.take() {
        Some(module) if module.is_worn_out() => module.unload(hand, &shared.totals),
        Some(module) => *guard = Some(module),
        None => {
            if hand.rng.u32(..4) == 0 {
                hop(&shared.cpus, hand);
            }
            *guard = Module::load(number, hand, &shared.totals);
        }
    }
}

/// Moves to some CPU, and is free to go elsewhere from there.
fn hop(cpus: &[usize], hand: &mut Hand) {
    let mut there = CpuSet::new();
    there.set(cpus[hand.rng.usize(..cpus.len())]);
    let mut anywhere = CpuSet::new();
    cpus.iter().for_each(|&cpu| anywhere.set(cpu));
    // A CPU that the kernel took away meanwhile cannot be hopped to: stay here, then.
    let _ = sched_setaffinity(None, &there);
    let _ = sched_setaffinity(None, &anywhere);
}
