//! Engines.

use std::ptr::NonNull;
use std::sync::Arc;

use kmem_core::pages::{GRANULE, PageStats};
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

/// What room and runs are counted in by tests that are about neither: 64 KiB, the slab of small objects.
pub const ROOM: usize = 64 << 10;

/// The figures of the page heap, counted in [`ROOM`]s.
pub fn rooms(engine: &E) -> PageStats {
    let rooms = |granules: usize| granules * GRANULE / ROOM;
    let PageStats { committed, dirty, clean, used, raw, skipped } = engine.page_stats();
    PageStats {
        committed: rooms(committed),
        dirty: rooms(dirty),
        clean: rooms(clean),
        used: rooms(used),
        raw: rooms(raw),
        skipped: rooms(skipped),
    }
}

/// A large run of so many rooms.
pub fn large(engine: &E, rooms: usize) -> NonNull<u8> {
    engine.alloc_large(rooms * ROOM, 16).expect("memory").address
}

/// Granules at the beginning of a window that the heap needs for itself, where it shall have room for so many others.
pub fn own_granules(granules: usize) -> usize {
    let room = |own| engine_of(with_window(1, granules + own), config(Population::OnFirstUse)).heap().window().1;
    (1..).find(|own| room(*own) == granules).expect("some window has as many")
}

fn with_window(cpus: usize, granules: usize) -> Machine {
    Machine { granules, ..Machine::with_cpus(cpus) }
}

/// A machine with `cpus` CPUs whose heap has room for exactly so many granules.
pub fn with_granules(cpus: usize, granules: usize) -> Machine {
    with_window(cpus, granules + own_granules(granules))
}

/// A machine with `cpus` CPUs whose heap has so much room.
pub fn with_room(cpus: usize, rooms: usize) -> Machine {
    with_granules(cpus, rooms * ROOM / GRANULE)
}

pub fn engine_of(machine: Machine, config: Config) -> E {
    Arc::new(Engine::new(Fake::new(machine), config).expect("an engine"))
}
