//! Objects that are moved together: what is worth moving, where it goes, and that the slabs it leaves are released.

mod common;

use std::ptr::NonNull;

use common::{Cache, E, Rng, config, distinct, engine_of, valid};
use kmem_core::Population;
use kmem_sim::fake::Machine;

fn wide() -> E {
    engine_of(Machine { granules: 16_384, ..Machine::with_cpus(1) }, config(Population::OnFirstUse))
}

fn worth_moving(engine: &E, object: usize) -> bool {
    // SAFETY: the objects are the test's, and live.
    unsafe { engine.worth_moving(object) }
}

/// Moves an object, which the test holds at `place`.
fn move_to_packed(cache: &Cache, place: &mut usize) {
    // SAFETY: the cache lives, and the object is the test's.
    unsafe {
        let moved = cache.engine.alloc_packed(cache.desc()).expect("memory");
        cache.engine.free_packed(NonNull::new(*place as *mut u8).expect("an object"));
        *place = moved.as_ptr() as usize;
    }
}

/// Moves what is worth moving of `kept`, in so many walks over it; returns how many moves that took.
fn walk(engine: &E, cache: &Cache, kept: &mut [usize], times: usize) -> usize {
    let mut moves = 0;
    for _ in 0..times {
        for object in kept.iter_mut() {
            if worth_moving(engine, *object) {
                move_to_packed(cache, object);
                moves += 1;
            }
        }
    }
    moves
}

/// `of` objects, of which one in `keep` stays, by chance; the others are on their slabs.
fn sparse(cache: &Cache, of: usize, keep: usize) -> Vec<usize> {
    let mut rng = Rng::new(7);
    let all: Vec<usize> = (0..of).map(|_| cache.alloc()).collect();
    let (kept, freed): (Vec<_>, Vec<_>) = all.into_iter().partition(|_| rng.one_in(keep));
    freed.into_iter().for_each(|object| cache.free(object));
    cache.shrink();
    kept
}

#[test]
fn what_is_sparse_moves_until_slabs_are_full() {
    let engine = wide();
    let cache = Cache::new(&engine, "sparse", 64);
    let mut kept = sparse(&cache, 20_000, 5);
    let (live, before) = (kept.len(), cache.figures().slabs);
    let moves = walk(&engine, &cache, &mut kept, 20);
    cache.shrink();
    let after = cache.figures();
    assert_eq!(after.live, live);
    assert!(after.slabs * 3 < before, "{} slabs of {before}", after.slabs);
    assert!(after.total * 9 < live * 10 + after.total / after.slabs * 20, "{} places for {live} objects", after.total);
    assert!(moves < live, "{moves} moves of {live} objects");
    assert!(distinct(&kept));
    valid(&engine, live);
    kept.into_iter().for_each(|object| cache.free(object));
}

/// Of every other slab most objects stay, of the others few. Only the few move, and they fill the holes of the many.
#[test]
fn dense_slabs_are_filled_and_keep_what_they_have() {
    let engine = wide();
    let cache = Cache::new(&engine, "dense", 64);
    let mut all = cache.bulk(20_000);
    while cache.figures().total > all.len() {
        all.push(cache.alloc());
    }
    all.sort_unstable();
    let each = all.len() / cache.figures().slabs;
    let (mut kept, mut few) = (Vec::new(), 0);
    let mut thin_out = |slab: &[usize], part: usize| {
        let (stays, goes) = slab.split_at(slab.len() * part / 16);
        goes.iter().for_each(|object| cache.free(*object));
        kept.extend_from_slice(stays);
        stays.len()
    };
    // The sparse ones last, so that they are the first of the partial ones.
    let slabs: Vec<&[usize]> = all.chunks(each).collect();
    for slab in slabs.iter().step_by(2) {
        thin_out(slab, 14);
    }
    slabs.iter().skip(1).step_by(2).for_each(|slab| few += thin_out(slab, 1));
    cache.shrink();
    let moves = walk(&engine, &cache, &mut kept, 3);
    cache.shrink();
    assert_eq!(cache.figures().slabs, slabs.len().div_ceil(2));
    assert!(moves <= few * 5 / 4, "{moves} moves of {few} objects");
    valid(&engine, kept.len());
    kept.into_iter().for_each(|object| cache.free(object));
}

#[test]
fn what_has_no_better_place_stays() {
    let engine = wide();
    let cache = Cache::new(&engine, "alone", 64);
    let first = cache.alloc();
    assert!(!worth_moving(&engine, first), "the only slab");
    assert!(!worth_moving(&engine, first + 8) && !worth_moving(&engine, 8), "no object");
    // Full slabs, and a last one.
    let all: Vec<usize> = (0..5000).map(|_| cache.alloc()).collect();
    cache.shrink();
    assert!(!all.iter().any(|object| worth_moving(&engine, *object)), "every slab but one is full");
    all.into_iter().chain([first]).for_each(|object| cache.free(object));
}

#[test]
fn objects_freed_to_their_slab_are_free_there_at_once() {
    let engine = wide();
    let cache = Cache::new(&engine, "at_once", 64);
    // SAFETY: the cache lives; the object is the test's.
    unsafe {
        let object = engine.alloc_packed(cache.desc()).expect("memory");
        let held = cache.figures();
        assert_eq!((held.live, held.in_slots, held.in_depot), (1, 0, 0));
        engine.free_packed(object);
    }
    let rest = cache.figures();
    assert_eq!((rest.live, rest.in_slots, rest.in_depot, rest.free), (0, 0, 0, rest.total));
    valid(&engine, 0);
}
