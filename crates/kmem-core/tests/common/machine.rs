//! Engines.

use std::sync::{Arc, LazyLock};

use kmem_core::pages::GRANULE;
use kmem_core::{Config, Engine, Population};
use kmem_sim::fake::{Fake, Machine};

use super::{E, no_bad_free, record_bad_free};

pub fn config(population: Population) -> Config {
    Config { max_caches: 200, population, bad_free: no_bad_free }
}

/// An engine on `cpus` CPUs that are all online; magazines come on first use.
pub fn engine(cpus: usize) -> E {
    engine_of(Machine::with_cpus(cpus), config(Population::OnFirstUse))
}

/// The same, magazines come with caches and CPUs.
pub fn eager(cpus: usize) -> E {
    engine_of(Machine::with_cpus(cpus), config(Population::Eager))
}

/// The same, for tests that free what they must not.
pub fn recording(cpus: usize) -> E {
    engine_of(Machine::with_cpus(cpus), Config { bad_free: record_bad_free, ..config(Population::OnFirstUse) })
}

/// Granules at the beginning of a window of up to 256 MiB that the heap needs for itself.
pub fn own_granules() -> usize {
    static OWN: LazyLock<usize> = LazyLock::new(|| {
        let engine = engine(1);
        // SAFETY: it is the heap's platform.
        let run = unsafe { engine.heap().alloc(engine.platform(), 1, 1) }.expect("the first run");
        (run.address - engine.heap().window().0) / GRANULE
    });
    *OWN
}

/// A machine with `cpus` CPUs whose heap has room for exactly so many granules.
pub fn with_room(cpus: usize, granules: usize) -> Machine {
    Machine { granules: granules + own_granules(), ..Machine::with_cpus(cpus) }
}

pub fn engine_of(machine: Machine, config: Config) -> E {
    Arc::new(Engine::new(Fake::new(machine), config).expect("an engine"))
}
