//! Frees release what they leave, where nobody calls for decay: nearly all of it by the last free, as far as the credit
//! reaches, and nothing at all unless it was asked for.

mod common;

use common::{Cache, E, Rng, engine, fill, is_filled, valid};
use kmem_core::pages::GRANULE;

const PAGE: usize = 4096;
/// Bytes of memory behind objects: slabs, but for pages that were released, and free runs that hold memory.
fn resident(engine: &E, live: usize) -> usize {
    let stats = engine.page_stats();
    (stats.used + stats.dirty) * GRANULE - valid(engine, live).purged_pages * PAGE
}

/// Frees all but every `every`th of these objects, in the order in which they come.
fn free_all_but(cache: &Cache, objects: Vec<usize>, every: usize) -> Vec<usize> {
    let (kept, rest): (Vec<_>, Vec<_>) = objects.into_iter().enumerate().partition(|(n, _)| n % every == 0);
    rest.into_iter().for_each(|(_, object)| cache.free(object));
    kept.into_iter().map(|(_, object)| object).collect()
}

fn sparse(releases: bool, shuffled: bool) -> (usize, usize, usize) {
    let engine = engine(1);
    engine.release_at_free(releases);
    let cache = Cache::new(&engine, "sparse", 400);
    let mut objects = cache.bulk(50_000);
    objects.iter().for_each(|object| fill(*object, 400, 1));
    let full = resident(&engine, objects.len());
    if shuffled {
        let mut rng = Rng::new(7);
        objects = (0..objects.len()).map(|_| rng.take(&mut objects)).collect();
    }
    let kept = free_all_but(&cache, objects, 1000);
    let at_once = resident(&engine, kept.len());
    for _ in 0..12 {
        let _ = engine.end_period();
    }
    let later = resident(&engine, kept.len());
    assert!(kept.iter().all(|object| is_filled(*object, 400, 1)), "objects in use keep what is in them");
    cache.free_bulk(&kept);
    cache.destroy().expect("nobody uses it");
    (full, at_once, later)
}

#[test]
fn by_the_last_free_a_sparse_heap_is_nearly_what_decay_makes_of_it() {
    for shuffled in [false, true] {
        let (full, at_once, later) = sparse(true, shuffled);
        assert!(later < full / 10 && at_once < later + full / 10, "{full} full, {at_once} at once, {later} later");
    }
}

#[test]
fn unless_it_is_asked_for_frees_release_nothing() {
    let (full, at_once, _) = sparse(false, false);
    assert!(at_once > full / 2, "{full} full, {at_once} at once");
}

/// Builds and frees the same heap; returns what is resident then.
fn cycle(engine: &E, cache: &Cache) -> usize {
    let objects = cache.bulk(20_000);
    objects.iter().for_each(|object| cache.free(*object));
    resident(engine, 0)
}

#[test]
fn a_heap_that_comes_and_goes_is_released_once_and_then_as_time_allows() {
    let engine = engine(1);
    engine.release_at_free(true);
    let cache = Cache::new(&engine, "cycle", 1000);
    let first = cycle(&engine, &cache);
    assert!(first < 3 << 20, "the first time nearly all of it: {first}");
    let again: Vec<_> = (0..5).map(|_| cycle(&engine, &cache)).collect();
    assert!(again[4] > 12 << 20, "the same heap at once again stays: {again:?}");
    // A second pays for twenty mebibytes.
    engine.platform().advance(1_000_000_000);
    let later = cycle(&engine, &cache);
    assert!(later < 3 << 20, "after a while it is released again: {later}");
    cache.destroy().expect("nobody uses it");
}

#[test]
fn large_runs_are_released_when_they_are_freed_and_not_when_they_come_and_go() {
    let engine = engine(1);
    engine.release_at_free(true);
    let run = || engine.alloc_bytes(1100 * GRANULE, 16).expect("memory").address;
    // SAFETY: the memory is the test's.
    let free = |address| unsafe { engine.free_bytes(address) };
    free(run());
    assert!(engine.page_stats().dirty <= 16, "{:?}", engine.page_stats());
    for _ in 0..5 {
        free(run());
    }
    assert_eq!(engine.page_stats().dirty, 1100, "what comes and goes stays");
    valid(&engine, 0);
}

#[test]
fn where_decay_is_expected_frees_leave_it_to_that() {
    let engine = engine(1);
    engine.release_at_free(true);
    let _ = engine.decay();
    let cache = Cache::new(&engine, "decays", 1000);
    assert!(cycle(&engine, &cache) > 12 << 20);
    cache.destroy().expect("nobody uses it");
}
