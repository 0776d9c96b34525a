//! Latency with a storm and without it, side by side: `kmem storm --latency`.
//!
//! The question is what the slowest allocations of an uninvolved thread cost while CPUs go down and come up and caches
//! are created and destroyed around it. Such bystanders allocate and free bursts of objects of caches that stay, and
//! time every single allocation. *Calm* legs, in which nothing else happens, alternate with *stormy* ones, in which one
//! thread takes CPUs down and up (including those of the bystanders) and loads and unloads modules, as densely as the
//! storm's driver.
//!
//! Each thread has a CPU of its own, because a bystander that waits for its turn to run would measure the scheduler.
//! Legs are short and alternate, and the ratio is the median of the pairs' ratios, so that other activity on the
//! machine affects both.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use kmem::RawCache;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use super::driver;
use super::latency::{Latencies, SLOWEST, Summary};
use super::module::Module;
use super::totals::Totals;
use super::worker_ctx::WorkerCtx;

/// Pairs of legs, and how long a leg is.
const ROUNDS: usize = 21;
const LEG: Duration = Duration::from_millis(100);
/// Most bystanders; more of them would measure each other.
const MOST_BYSTANDERS: usize = 3;
/// Sizes of the bystanders' objects.
const SIZES: [usize; 4] = [32, 96, 256, 1024];
/// Most objects of a burst: more than a magazine holds, so that some allocations are slow in calm as well.
const BURST: usize = 256;
/// The highest thread number there is; no thread of the storm itself has it.
const LAST_ID: u64 = (1 << 11) - 1;
/// Visits of a module before it is unloaded.
const VISITS: usize = 2;

/// Calm and storm, compared; the field names are the JSON keys.
#[derive(Serialize)]
pub struct Comparison {
    /// Threads that timed their allocations.
    pub bystanders: usize,
    /// Pairs of legs.
    pub rounds: usize,
    /// How often CPUs went down or came up during the stormy legs.
    pub transitions: u64,
    /// How often caches were destroyed during the stormy legs.
    pub caches_destroyed: u64,
    /// The bystanders alone.
    pub calm: Summary,
    /// The same beside a storm.
    pub storm: Summary,
    /// The slowest 1 in 10,000 of the stormy leg divided by that of the calm leg; the median of all pairs.
    pub ratio_p99_99: f64,
}

/// Measures for about four seconds. `None` if there is only one CPU, so that there is nothing to compare.
pub fn compare(cpus: &[usize], seed: u64, totals: &Totals) -> Result<Option<Comparison>, String> {
    if cpus.len() < 2 {
        return Ok(None);
    }
    let caches = SIZES.iter().map(|&size| {
        let layout = Layout::from_size_align(size, 16).expect("a constant layout makes sense");
        RawCache::new(&format!("bystander-{size}"), layout).map_err(|e| format!("nothing can be measured: {e}"))
    });
    let caches = caches.collect::<Result<Vec<_>, _>>()?;
    let bystanders = (cpus.len() - 1).min(MOST_BYSTANDERS);
    // The CPUs of the bystanders and that of the storm; transitions of others would affect no bystander.
    let cpus = &cpus[..=bystanders];
    let ours = Totals::default();
    let mut ctx = WorkerCtx::new(LAST_ID, seed);
    let (mut calm, mut storm) = (Latencies::default(), Latencies::default());
    let mut ratios = Vec::with_capacity(ROUNDS);
    for round in 0..=ROUNDS {
        let quiet = leg(&caches, cpus, || thread::sleep(LEG));
        let stormy = leg(&caches, cpus, || raise(cpus, &mut ctx, &ours));
        if round == 0 {
            continue; // the first round only warms up
        }
        ratios.push(stormy.quantile(SLOWEST) as f64 / quiet.quantile(SLOWEST).max(1) as f64);
        calm.add(&quiet);
        storm.add(&stormy);
    }
    ours.add(&mut ctx.tally);
    ours.complaints().into_iter().for_each(|complaint| totals.complain(complaint));
    for cache in caches {
        cache.destroy().map_err(|busy| format!("after the measurement {busy}"))?;
    }
    ratios.sort_by(f64::total_cmp);
    let counted = ours.read();
    Ok(Some(Comparison {
        bystanders,
        rounds: ROUNDS,
        transitions: counted.transitions(),
        caches_destroyed: counted.caches_destroyed,
        calm: calm.summary(),
        storm: storm.summary(),
        ratio_p99_99: (ratios[ROUNDS / 2] * 100.0).round() / 100.0,
    }))
}

/// One leg: a bystander on each CPU but the last, for as long as the `weather` on that one lasts.
fn leg(caches: &[RawCache], cpus: &[usize], weather: impl FnOnce() + Send) -> Latencies {
    let over = &AtomicBool::new(false);
    let [standing @ .., last] = cpus else { return Latencies::default() };
    thread::scope(|scope| {
        let standing: Vec<_> = standing.iter().map(|&cpu| scope.spawn(move || stand_by(caches, cpu, over))).collect();
        let weather = scope.spawn(|| {
            stay_on(*last);
            weather();
        });
        weather.join().expect("the storm does not panic");
        over.store(true, Relaxed);
        let mut all = Latencies::default();
        standing.into_iter().for_each(|thread| all.add(&thread.join().expect("a bystander does not panic")));
        all
    })
}

/// Pins the calling thread to one CPU, unless the kernel has taken that away meanwhile.
fn stay_on(cpu: usize) {
    let mut there = CpuSet::new();
    there.set(cpu);
    let _ = sched_setaffinity(None, &there);
}

/// Allocates bursts of objects and frees them in another order.
fn stand_by(caches: &[RawCache], cpu: usize, over: &AtomicBool) -> Latencies {
    stay_on(cpu);
    let mut latencies = Latencies::default();
    let mut luck = fastrand::Rng::with_seed(cpu as u64);
    let mut objects = Vec::with_capacity(BURST);
    while !over.load(Relaxed) {
        let cache = &caches[luck.usize(..caches.len())];
        for _ in 0..luck.usize(1..=BURST) {
            let before = Instant::now();
            let object = cache.alloc();
            latencies.record(before.elapsed());
            objects.extend(object);
        }
        luck.shuffle(&mut objects);
        for object in objects.drain(..) {
            // SAFETY: it was just allocated from this cache, and this thread alone has it.
            unsafe { cache.free(object) };
        }
    }
    latencies
}

/// The storm of one leg: transitions, and modules that come and go.
fn raise(cpus: &[usize], ctx: &mut WorkerCtx, totals: &Totals) {
    let began = Instant::now();
    let mut pace = driver::Pace::default();
    while began.elapsed() < LEG {
        driver::step(cpus[ctx.rng.usize(..cpus.len())], ctx, totals);
        if ctx.rng.u32(..4) == 0
            && let Some(module) = Module::load(usize::MAX, ctx, totals)
        {
            (0..VISITS).for_each(|_| module.visit(ctx));
            module.unload(ctx, totals);
        }
        pace.pause(false, ctx);
    }
    ctx.tally.cpu_up += driver::all_up(cpus, totals);
}
