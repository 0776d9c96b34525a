//! Large runs that grow are moved, not copied: their content goes along, nothing is lost, whatever fails.

mod common;

use common::{E, ROOM, Rng, config, engine, engine_of, fill, is_filled, rooms, valid, with_room};
use kmem_core::Population;
use kmem_core::platform::PageSource;
use std::ptr::NonNull;

fn at(address: usize) -> NonNull<u8> {
    NonNull::new(address as *mut u8).expect("an address")
}

fn large(engine: &E, length: usize) -> usize {
    common::large(engine, length).as_ptr() as usize
}

fn grow(engine: &E, address: usize, length: usize) -> Option<usize> {
    // SAFETY: the memory is the test's.
    unsafe { engine.realloc_bytes(at(address), length * ROOM, 16) }.ok().map(|new| new.as_ptr() as usize)
}

fn free(engine: &E, address: usize) {
    // SAFETY: as above.
    unsafe { engine.free_bytes(at(address)) }
}

#[test]
fn a_run_without_room_behind_it_is_moved_and_leaves_address_space() {
    let engine = engine(1);
    let (first, guard) = (large(&engine, 40), large(&engine, 1));
    fill(first, 40 * ROOM, 3);
    let moved = grow(&engine, first, 60).expect("room");
    assert!(moved != first && is_filled(moved, 40 * ROOM, 3));
    assert_eq!((rooms(&engine).used, rooms(&engine).raw), (61, 40), "its pages went along");
    for longer in [1 << 40, usize::MAX / ROOM - 1] {
        assert_eq!(grow(&engine, moved, longer), None, "no window holds so much");
    }
    // It grows in place, moves on, shrinks and goes, and remembers that it was moved.
    assert_eq!(grow(&engine, moved, 70), Some(moved), "it was put where it can grow");
    let behind = large(&engine, 41);
    let again = grow(&engine, moved, 90).expect("room");
    assert!(again != moved && is_filled(again, 40 * ROOM, 3));
    assert_eq!(grow(&engine, again, 50), Some(again));
    assert_eq!(rooms(&engine).raw, 40 + 70 + 40);
    [again, behind, guard].into_iter().for_each(|run| free(&engine, run));
    let stats = rooms(&engine);
    assert_eq!((stats.used, stats.raw, stats.dirty), (0, 40 + 70 + 90, 42), "moved runs leave no memory behind");
    // All of it is address space that serves again.
    free(&engine, large(&engine, 900));
    valid(&engine, 0);
}

#[test]
fn a_moved_run_that_grows_where_it_is_is_still_a_moved_one() {
    let engine = engine(1);
    let (first, guard) = (large(&engine, 40), large(&engine, 1));
    let moved = grow(&engine, first, 60).expect("room");
    assert_eq!(grow(&engine, moved, 70), Some(moved), "it was put where it can grow");
    [moved, guard].into_iter().for_each(|run| free(&engine, run));
    let stats = rooms(&engine);
    assert_eq!((stats.used, stats.raw, stats.dirty), (0, 40 + 70, 1), "its address space went back with its memory");
    valid(&engine, 0);
}

#[test]
fn short_runs_and_refused_moves_are_copied() {
    for (length, refused) in [(10, None), (40, Some(0)), (40, Some(1))] {
        let engine = engine(1);
        let (run, _guard, room) = (large(&engine, length), large(&engine, 1), large(&engine, 100));
        fill(run, length * ROOM, 5);
        // A longer run is there without a call, so the move is the next one. It fails in either way.
        free(&engine, room);
        if let Some(parity) = refused {
            while engine.platform().calls() % 2 != parity {
                engine.platform().map(1).expect("a page");
            }
            engine.platform().fail_nth(0);
        }
        let copied = grow(&engine, run, 60).expect("a copy");
        engine.platform().fail_never();
        assert!(copied != run && is_filled(copied, length * ROOM, 5));
        assert_eq!(rooms(&engine).used, 61);
        free(&engine, copied);
        valid(&engine, 0);
    }
}

#[test]
fn whatever_fails_no_run_is_lost_and_none_overlap() {
    for seed in 0..3 {
        let engine = engine_of(with_room(1, 1000), config(Population::OnFirstUse));
        let mut rng = Rng::new(seed);
        let mut held: Vec<(usize, usize, u8)> = vec![];
        for _ in 0..200 {
            if rng.one_in(3) {
                engine.platform().fail_nth(rng.below(3));
            }
            let seed = rng.below(251) as u8;
            let length = rng.below(56) + 5;
            if held.len() < 4 {
                if let Ok(run) = engine.alloc_large(length * ROOM, 16) {
                    held.push((run.address.as_ptr() as usize, length, seed));
                    fill(run.address.as_ptr() as usize, length * ROOM, seed);
                }
            } else {
                let (run, had, was) = rng.take(&mut held);
                match grow(&engine, run, length) {
                    Some(new) => {
                        assert!(is_filled(new, had.min(length) * ROOM, was));
                        fill(new, length * ROOM, seed);
                        held.push((new, length, seed));
                    }
                    None => {
                        assert!(is_filled(run, had * ROOM, was), "an error leaves it as it was");
                        free(&engine, run);
                    }
                }
            }
            engine.platform().fail_never();
            if rng.one_in(10) {
                assert!(held.iter().all(|(run, length, seed)| is_filled(*run, length * ROOM, *seed)));
            }
            if rng.one_in(5) {
                let _ = engine.decay();
            }
        }
        held.into_iter().for_each(|(run, ..)| free(&engine, run));
        assert_eq!(rooms(&engine).used, 0);
        let stats = rooms(&engine);
        assert_eq!(stats.skipped, 0);
        free(&engine, large(&engine, 1000));
    }
}

/// What is free behind the room is another mapping, where the source has mappings: a run that reached into it could not
/// be moved again.
#[test]
fn a_moved_run_grows_into_its_room_and_no_further() {
    let engine = engine(1);
    let (first, _guard) = (large(&engine, 40), large(&engine, 1));
    let moved = grow(&engine, first, 80).expect("room");
    assert!(moved != first);
    assert_eq!(grow(&engine, moved, 100), Some(moved), "a quarter was moved with it");
    let again = grow(&engine, moved, 101).expect("room");
    assert!(again != moved, "all behind it is free, and was not moved with it");
    // Shorter, it grows no further than it was.
    assert_eq!(grow(&engine, again, 50), Some(again));
    assert_ne!(grow(&engine, again, 60), Some(again));
    valid(&engine, 0);
}
