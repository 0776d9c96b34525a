//! Memory that comes by more than a page at once: what comes with the first object is free memory like any other.

mod common;

use common::{Cache, E, config, engine_of, valid, with_room};
use kmem_core::Population;
use kmem_core::pages::GRANULE;
use kmem_sim::fake::Machine;
use std::ptr::NonNull;

/// Granules that come at once, if small objects will fill them.
const UNIT: usize = (2 << 20) / GRANULE;

fn engine() -> E {
    engine_of(Machine { huge: true, ..with_room(1, 2000) }, config(Population::OnFirstUse))
}

fn large(engine: &E, granules: usize) -> NonNull<u8> {
    engine.alloc_large(granules * GRANULE, 16).expect("memory").address
}

fn free(engine: &E, address: NonNull<u8>) {
    // SAFETY: the memory is the test's.
    unsafe { engine.free_bytes(address) }
}

/// Periods of decay, until nothing is left.
fn settle(engine: &E) {
    while engine.decay().left {}
}

/// Granules of a slab of objects of 64 bytes, its objects, and how many the slabs have that nobody counts on being
/// filled.
const SLAB: usize = (64 << 10) / GRANULE;
const OBJECTS: usize = 1024;
const FIRST_OBJECTS: usize = 4 * OBJECTS;

/// An object at the beginning of a step of its own, of a cache that has some slabs, all in use: what lies before it is
/// in use, more than the window's first steps.
fn first_of_a_step(engine: &E, cache: &Cache) -> usize {
    cache.bulk(FIRST_OBJECTS);
    large(engine, 4 * UNIT);
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
    assert_eq!(before.dirty, UNIT - SLAB, "{before:?}");
    let near = large(&engine, 2);
    assert_eq!(near.as_ptr() as usize & !(UNIT * GRANULE - 1), object & !(UNIT * GRANULE - 1));
    assert_eq!((engine.page_stats().dirty, engine.page_stats().committed), (UNIT - SLAB - 2, before.committed));
    settle(&engine);
    assert_eq!(engine.page_stats().dirty, 0);
    // The step has small pages by now: nothing else comes with what is used of it.
    let more = large(&engine, 1);
    assert_eq!(engine.page_stats().dirty, 0);
    [near, more].into_iter().for_each(|run| free(&engine, run));
    cache.free(object);
    valid(&engine, FIRST_OBJECTS);
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
    assert_eq!((engine.page_stats().dirty, engine.page_stats().clean), (UNIT - SLAB, clean - UNIT));
    cache.free(object);
}

/// Thousands of caches with an object each would make all of the memory around these objects theirs.
#[test]
fn the_first_slabs_of_a_cache_come_by_the_page() {
    let engine = engine();
    large(&engine, 5 * UNIT);
    let caches: Vec<_> = (0..100).map(|n| Cache::new(&engine, &format!("cache {n}"), 64)).collect();
    let objects: Vec<_> = caches.iter().map(Cache::alloc).collect();
    assert_eq!(engine.page_stats().dirty, 0);
    // Nor do those of a cache that grows, at the beginning of the window.
    let engine = self::engine();
    let cache = Cache::new(&engine, "grows", 64);
    cache.bulk(60 * OBJECTS);
    assert_eq!(engine.page_stats().dirty, 0);
    // A unit begins somewhere behind it.
    cache.bulk(200 * OBJECTS);
    assert!(engine.page_stats().dirty > 0, "{} objects", objects.len());
}

/// A larger object crosses the edge of a step, in memory that small objects fill.
#[test]
fn a_step_that_small_objects_will_fill_comes_whole_whoever_commits_it() {
    let engine = engine();
    let cache = Cache::new(&engine, "small", 64);
    cache.bulk(FIRST_OBJECTS);
    large(&engine, 5 * UNIT);
    cache.bulk(OBJECTS * (3 * UNIT / SLAB));
    // To the end of the step.
    let mut end = 0;
    while engine.page_stats().dirty > 0 || end % UNIT != 0 {
        end = large(&engine, 1).as_ptr() as usize / GRANULE + 1;
    }
    large(&engine, 1);
    assert_eq!(engine.page_stats().dirty, UNIT - 1, "{:?}", engine.page_stats());
}
