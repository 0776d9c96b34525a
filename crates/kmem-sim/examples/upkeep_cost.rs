//! What a period of upkeep costs an engine with thousands of caches, of which ten are in use.
//!
//! ```sh
//! cargo run --release -p kmem-sim --example upkeep_cost -- 192 6000
//! ```
//! The CPUs are virtual, so any number of them can be tried. Each line is a period: ageing, then decay. At first all
//! caches have been used; then they rest; then ten of them are used on every CPU between two periods.

use std::time::{Duration, Instant};

use kmem_core::cache::{CacheDesc, CacheSpec};
use kmem_core::cpu::CpuSet;
use kmem_core::slab::FreeError;
use kmem_core::{Config, Engine, Population};
use kmem_sim::fake::{Fake, Machine, run_on};

fn bad_free(object: usize, error: FreeError) {
    panic!("{object:#x}: {error:?}");
}

fn use_once(engine: &Engine<Fake>, cache: &CacheDesc, objects: usize) {
    // SAFETY: the caches of this program live as long as its engine, and the objects are this function's.
    let taken: Vec<_> = (0..objects).map(|_| unsafe { engine.alloc(cache) }.expect("memory")).collect();
    // SAFETY: as above.
    taken.into_iter().for_each(|object| unsafe { engine.free(cache, object) });
}

fn period(engine: &Engine<Fake>) -> Duration {
    let begun = Instant::now();
    let aged = engine.age(&CpuSet::new());
    let ageing = begun.elapsed();
    let decayed = engine.decay();
    let all = begun.elapsed();
    println!("{all:>12.1?}  ageing {ageing:.1?}, {} slots drained, {} bytes released", aged.slots, decayed.bytes);
    all
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse().expect("a number"));
    let (cpus, count) = (numbers.next().unwrap_or(192), numbers.next().unwrap_or(6000));
    let machine = Machine { granules: 1 << 17, ..Machine::with_cpus(cpus) };
    let config = Config { max_caches: count + 1, population: Population::OnFirstUse, bad_free };
    // SAFETY: this program uses named caches only.
    let engine = unsafe { Engine::without_general(Fake::new(machine), config) }.expect("an engine");
    let caches: Vec<_> = (0..count)
        .map(|n| {
            let spec = CacheSpec { name: &format!("cache {n}"), size: 64, align: 8, ops: None };
            engine.create(&spec).ok().and_then(|id| engine.descriptor(id)).expect("a cache")
        })
        .collect();
    // SAFETY: as for `use_once`.
    let cache = |n: usize| unsafe { caches[n].as_ref() };
    println!("{count} caches on {cpus} CPUs, all used on two of them");
    for cpu in [0, cpus - 1] {
        run_on(cpu);
        (0..count).for_each(|n| use_once(&engine, cache(n), 1));
    }
    for _ in 0..6 {
        period(&engine);
    }
    println!("ten of them used on every CPU");
    let mut periods: Vec<_> = (1..=9)
        .map(|objects| {
            for cpu in 0..cpus {
                run_on(cpu);
                (0..count.min(10)).for_each(|n| use_once(&engine, cache(n), objects));
            }
            period(&engine)
        })
        .collect();
    periods.sort();
    let median = periods[periods.len() / 2];
    println!("median {median:.1?}: {:.3} % of a CPU at four periods a second", median.as_secs_f64() * 400.0);
}
