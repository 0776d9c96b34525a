//! Rest: upkeep passes over a cache of which nothing is cached and nothing can go, until something is.

mod common;

use common::{Cache, E, engine, rooms, valid};
use kmem_core::cpu::CpuSet;
use kmem_sim::fake;

/// Lets time pass until nothing is left to age or to decay.
fn settle(engine: &E) {
    for _ in 0..20 {
        let aged = engine.age(&CpuSet::new());
        if !engine.decay().left && !aged.left {
            return;
        }
    }
    panic!("something is left: {:?}", rooms(engine));
}

/// Nothing of the cache is anywhere but with users.
fn nothing_is_cached(engine: &E, cache: &Cache, held: usize) {
    settle(engine);
    let figures = cache.figures();
    assert_eq!((figures.in_slots, figures.in_depot, figures.live, figures.cpus), (0, 0, held, 0));
    valid(engine, held);
}

#[test]
fn what_a_slot_gets_after_a_rest_goes_back_again() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "c", 1000);
    for _ in 0..3 {
        cache.free_bulk(&cache.bulk(500));
        assert!(cache.figures().in_slots > 0);
        nothing_is_cached(&engine, &cache, 0);
        assert_eq!(rooms(&engine).used, 0);
    }
}

#[test]
fn what_is_freed_past_the_slots_after_a_rest_goes_back() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "c", 1000);
    let objects = cache.bulk(500);
    nothing_is_cached(&engine, &cache, 500);
    let used = rooms(&engine).used;
    // A hint that names no CPU: no slot is enabled.
    fake::believe(Some(1000));
    cache.free_bulk(&objects);
    fake::believe(None);
    assert_eq!(cache.figures().cpus, 0);
    nothing_is_cached(&engine, &cache, 0);
    assert_eq!(rooms(&engine).used, 0, "of {used}");
}

#[test]
fn of_many_caches_those_in_use_are_found() {
    let engine = common::engine_of(
        common::with_room(1, 400),
        kmem_core::Config { max_caches: 300, ..common::config(kmem_core::Population::OnFirstUse) },
    );
    let caches: Vec<_> = (0..200).map(|n| Cache::new(&engine, &format!("cache {n}"), 64)).collect();
    settle(&engine);
    for used in (0..200).step_by(9) {
        let object = caches[used].alloc();
        caches[used].free(object);
        assert_eq!(caches[used].figures().cpus, 1);
        nothing_is_cached(&engine, &caches[used], 0);
    }
}

#[test]
fn a_slot_that_a_cpu_brings_along_is_found() {
    let engine = common::engine_of(common::with_room(2, 400), common::config(kmem_core::Population::Eager));
    let cache = Cache::new(&engine, "c", 64);
    nothing_is_cached(&engine, &cache, 0);
    engine.cpu_down(1).expect("CPU 1 can go");
    engine.cpu_up(1).expect("and come back");
    assert_eq!(cache.figures().cpus, 1);
    nothing_is_cached(&engine, &cache, 0);
}
