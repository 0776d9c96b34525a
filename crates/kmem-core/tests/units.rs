//! Memory that comes by more than a page at once: what comes with the first object is free memory like any other.

mod common;

use common::{Cache, E, config, engine_of, valid, with_room};
use kmem_core::Population;
use kmem_core::pages::GRANULE;
use kmem_sim::fake::Machine;
use std::ptr::NonNull;

/// Granules that come at once, if small objects will fill them.
const UNIT: usize = 32;

fn engine() -> E {
    engine_of(Machine { huge: true, ..with_room(1, 2000) }, config(Population::OnFirstUse))
}

fn large(engine: &E, granules: usize) -> NonNull<u8> {
    engine.alloc_bytes(granules * GRANULE, 16).expect("memory").address
}

fn free(engine: &E, address: NonNull<u8>) {
    // SAFETY: the memory is the test's.
    unsafe { engine.free_bytes(address) }
}

/// Periods of decay, until nothing is left.
fn settle(engine: &E) {
    while engine.decay().left {}
}

/// An object at the beginning of a step of its own: what lies before it is in use.
fn first_of_a_step(engine: &E, cache: &Cache) -> usize {
    let rest = UNIT - (large(engine, 1).as_ptr() as usize / GRANULE + 1) % UNIT;
    if rest < UNIT {
        large(engine, rest);
    }
    cache.alloc()
}

#[test]
fn the_rest_of_a_unit_serves_first_and_goes_back() {
    let engine = engine();
    let cache = Cache::new(&engine, "small", 64);
    let object = first_of_a_step(&engine, &cache);
    let before = engine.page_stats();
    assert_eq!(before.dirty, UNIT - 1, "{before:?}");
    let near = large(&engine, 2);
    assert_eq!(near.as_ptr() as usize & !(UNIT * GRANULE - 1), object & !(UNIT * GRANULE - 1));
    assert_eq!((engine.page_stats().dirty, engine.page_stats().committed), (UNIT - 3, before.committed));
    settle(&engine);
    assert_eq!(engine.page_stats().dirty, 0);
    // The step has small pages by now: nothing else comes with what is used of it.
    let more = large(&engine, 1);
    assert_eq!(engine.page_stats().dirty, 0);
    [near, more].into_iter().for_each(|run| free(&engine, run));
    cache.free(object);
    valid(&engine, 0);
}

#[test]
fn large_objects_come_by_the_page() {
    let engine = engine();
    for granules in [1, 3, UNIT, 5, 2 * UNIT + 1] {
        large(&engine, granules);
        assert_eq!(engine.page_stats().dirty, 0, "{granules}");
    }
}

#[test]
fn a_unit_that_went_back_whole_comes_as_a_unit_again() {
    let engine = engine();
    let cache = Cache::new(&engine, "small", 64);
    let object = first_of_a_step(&engine, &cache);
    cache.free(object);
    let _ = engine.trim().expect("no callback");
    assert_eq!(engine.page_stats().dirty, 0);
    let clean = engine.page_stats().clean;
    assert!(clean >= UNIT, "{:?}", engine.page_stats());
    let object = cache.alloc();
    assert_eq!((engine.page_stats().dirty, engine.page_stats().clean), (UNIT - 1, clean - UNIT));
    cache.free(object);
}
