//! Decay: what was not needed goes back without traffic, what is in use stays.

mod common;

use common::{Cache, E, ROOM, Rng, config, engine, engine_of, large, rooms, valid, with_room};
use kmem_core::Population;
use kmem_core::cache::ObjectOps;
use kmem_core::percpu::Area;
use kmem_sim::fake;
use std::ptr::NonNull;

/// Periods after which nothing may be left.
const PERIODS: usize = 12;

/// Lets time pass until nothing is left to decay; answers the bytes that went back.
fn settle(engine: &E) -> usize {
    let mut bytes = 0;
    for _ in 0..PERIODS {
        let decayed = engine.decay();
        assert!(common::holds_no_lock(engine));
        bytes += decayed.bytes;
        if !decayed.left {
            assert_eq!(engine.decay().bytes, 0, "nothing was left");
            return bytes;
        }
    }
    panic!("something is left after {PERIODS} periods: {:?}", engine.page_stats());
}

fn free(engine: &E, address: NonNull<u8>) {
    // SAFETY: the memory is the test's.
    unsafe { engine.free_bytes(address) }
}

#[test]
fn what_depots_slabs_and_runs_hold_goes_back() {
    let engine = engine(2);
    fake::run_on(1);
    let cache = Cache::new(&engine, "burst", 1000);
    cache.free_bulk(&cache.bulk(20_000));
    let used = engine.meta_used();
    // What is in slots is not decay's business: the CPU leaves.
    fake::run_on(0);
    engine.cpu_down(1).expect("CPU 1 can go");
    assert!(cache.figures().in_depot > 0 && rooms(&engine).dirty > 0);
    assert!(settle(&engine) >= 20_000 * 1000);
    assert_eq!(cache.figures().total, 0);
    assert_eq!((rooms(&engine).used, rooms(&engine).dirty), (0, 0));
    assert!(engine.meta_used() < used, "empty magazines go back too");
    valid(&engine, 0);
    cache.free_bulk(&cache.bulk(100));
    cache.destroy().expect("nobody uses it");
}

#[test]
fn a_cache_keeps_a_quarter_of_a_mebibyte_of_empty_slabs() {
    for (size, slabs) in [(64, 4), (250_000, 1)] {
        let engine = engine(1);
        let cache = Cache::new(&engine, "empty", size);
        cache.free_bulk(&cache.bulk((4 << 20) / size));
        let (bytes, empty) =
            engine.with_stats(cache.id, |stats| (stats.bytes / stats.slabs, stats.empty_slabs)).expect("it lives");
        assert_eq!(empty, slabs, "of {bytes} bytes");
        valid(&engine, 0);
    }
}

#[test]
fn what_comes_and_goes_within_a_period_stays() {
    let engine = engine(1);
    let cache = Cache::new(&engine, "busy", 1000);
    let mut held = vec![];
    for period in 0..10 {
        cache.free_bulk(&cache.bulk(5_000));
        free(&engine, large(&engine, 100));
        let decayed = engine.decay();
        assert!(decayed.left);
        // The two never need their memory at the same time: what one of them leaves serves the other from then on.
        if period >= 3 {
            assert_eq!(decayed.bytes, 0, "period {period}");
            held.push(rooms(&engine).used + rooms(&engine).dirty);
        }
    }
    assert!(held.iter().all(|held| *held <= 77 + 100), "{held:?}");
    valid(&engine, 0);
}

#[test]
fn a_run_that_nobody_needs_goes_back_although_its_neighbours_come_and_go() {
    let engine = engine(1);
    let (idle, edge) = (large(&engine, 80), large(&engine, 10));
    let behind = large(&engine, 1);
    free(&engine, idle);
    free(&engine, edge);
    for _ in 0..6 {
        // Cut off of the long run, and merged with it again.
        free(&engine, large(&engine, 2));
        let _ = engine.decay();
    }
    assert_eq!(rooms(&engine).clean, 88, "all but what is needed");
    assert_eq!(rooms(&engine).dirty, 2);
    free(&engine, behind);
    // They merge and serve as before.
    assert_eq!(settle(&engine), 3 * ROOM);
    free(&engine, large(&engine, 1000));
}

#[test]
fn free_runs_hold_more_where_somebody_lets_them_decay() {
    let engine = engine_of(with_room(1, 6000), config(Population::OnFirstUse));
    let burst = |length: usize| {
        let runs: Vec<_> = (0..length / 10).map(|_| large(&engine, 10)).collect();
        runs.into_iter().for_each(|run| free(&engine, run));
        rooms(&engine).dirty
    };
    // 32 MiB; and 128 MiB, or what was used.
    assert!(burst(3000) <= 512);
    assert!((400..=512).contains(&burst(400)));
    let _ = engine.decay();
    assert!((1900..=2048).contains(&burst(1900)));
    assert!((3000..=3750).contains(&burst(3000)), "all that was used");
    free(&engine, large(&engine, 300));
    assert!(rooms(&engine).dirty >= 3000, "large runs are kept for a while, too");
    free(&engine, large(&engine, 2100));
    assert!(rooms(&engine).dirty < 2100, "but not one alone that is so long");
    assert!(burst(1000) >= 1000);
    assert!(engine.no_decay().bytes > 0);
    assert_eq!(rooms(&engine).dirty, 0);
    assert!(burst(3000) <= 512);
}

#[test]
fn what_was_used_at_most_is_forgotten() {
    let engine = engine_of(with_room(1, 12_000), config(Population::OnFirstUse));
    let _ = engine.decay();
    let tens = |length: usize| (0..length / 10).map(|_| large(&engine, 10)).collect::<Vec<_>>();
    tens(4000).into_iter().for_each(|run| free(&engine, run));
    settle(&engine);
    // Holes that are too short for what comes then.
    let (stay, go): (Vec<_>, Vec<_>) = tens(1900).into_iter().enumerate().partition(|(place, _)| place % 10 == 0);
    go.into_iter().for_each(|(_, run)| free(&engine, run));
    let long: Vec<_> = (0..5).map(|_| large(&engine, 300)).collect();
    long.into_iter().for_each(|run| free(&engine, run));
    assert!(rooms(&engine).dirty <= 1900 * 5 / 4, "{:?}", rooms(&engine));
    stay.into_iter().for_each(|(_, run)| free(&engine, run));
    settle(&engine);
    assert_eq!((rooms(&engine).used, rooms(&engine).dirty), (0, 0));
}

#[test]
fn large_blocks_that_come_and_go_find_memory_that_is_there() {
    let engine = engine_of(with_room(1, 12_000), config(Population::OnFirstUse));
    let _ = engine.decay();
    let mut rng = Rng::new(7);
    let mut slots: Vec<_> = (0..24).map(|_| large(&engine, 100)).collect();
    let (mut asked, mut fresh) = (0, 0);
    for turn in 0..2000 {
        let slot = &mut slots[rng.below(24)];
        free(&engine, *slot);
        let length = 16 + rng.below(496);
        let run = engine.alloc_large(length * ROOM, 16).expect("memory");
        *slot = run.address;
        if turn >= 500 {
            asked += length;
            fresh += if run.zero { length } else { 0 };
        }
    }
    assert!(fresh * 50 < asked, "{fresh} length of {asked} had to be faulted in");
    slots.into_iter().for_each(|run| free(&engine, run));
    settle(&engine);
    assert_eq!((rooms(&engine).used, rooms(&engine).dirty), (0, 0));
}

#[test]
fn a_process_does_not_grow_by_what_is_too_short_for_a_large_run() {
    let engine = engine(1);
    let runs: Vec<_> = (0..60).map(|_| large(&engine, 5)).collect();
    runs.iter().step_by(2).for_each(|run| free(&engine, *run));
    assert_eq!(rooms(&engine).dirty, 150);
    // None of the thirty holes of five is long enough.
    let long = large(&engine, 100);
    assert_eq!(rooms(&engine).dirty, 50);
    let short = large(&engine, 15);
    assert_eq!(rooms(&engine).dirty, 50, "little is not worth a call");
    [long, short].into_iter().for_each(|run| free(&engine, run));
    runs.iter().skip(1).step_by(2).for_each(|run| free(&engine, *run));
    settle(&engine);
    assert_eq!((rooms(&engine).used, rooms(&engine).dirty), (0, 0));
}

/// Nor by what is too short for a slab of one object of two hundred thousand bytes.
#[test]
fn a_process_does_not_grow_by_what_is_too_short_for_a_slab_of_long_objects() {
    let engine = engine_of(with_room(1, 6000), config(Population::OnFirstUse));
    let _ = engine.decay();
    let runs: Vec<_> = (0..800).map(|_| large(&engine, 2)).collect();
    runs.iter().step_by(2).for_each(|run| free(&engine, *run));
    assert_eq!(rooms(&engine).dirty, 800);
    let objects: Vec<_> = (0..300).map(|_| engine.alloc_bytes(200_000, 16).expect("memory").address).collect();
    let held = rooms(&engine);
    assert!(held.dirty <= 128 + held.used / 16, "{held:?}");
    objects.into_iter().for_each(|object| free(&engine, object));
    runs.iter().skip(1).step_by(2).for_each(|run| free(&engine, *run));
    valid(&engine, 0);
}

#[test]
fn destructors_are_not_run() {
    unsafe fn nothing(_: *mut (), _: *mut u8) {}
    unsafe fn never(_: *mut (), _: *mut u8) {
        panic!("decay ran a destructor");
    }
    let engine = engine(1);
    // SAFETY: neither touches anything.
    let ops = unsafe { ObjectOps::new(std::ptr::null_mut(), nothing, Some(never)) };
    let cache = Cache::with_ops(&engine, "somebody's", 1000, ops);
    cache.free_bulk(&cache.bulk(60));
    let before = cache.figures();
    assert_eq!(settle(&engine), 0);
    assert_eq!(cache.figures(), before);
}

/// I26 with decay: a CPU that comes back within a period finds its area, and one that stays away leaves nothing.
#[test]
fn the_area_of_a_cpu_that_left_is_kept_for_a_period() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "flapping", 64);
    cache.fill_slot();
    fake::run_on(1);
    cache.fill_slot();
    fake::run_on(0);
    let up = engine.platform().mapped();
    let _ = engine.decay();
    for _ in 0..100 {
        let calls = engine.platform().calls();
        engine.cpu_down(1).expect("CPU 0 stays");
        let stats = engine.cpu_stats(1).expect("CPU 1 exists");
        assert!(!stats.has_area && cache.figures().cpus == 1);
        valid(&engine, 0);
        engine.cpu_up(1).expect("CPU 1 comes back");
        assert_eq!(engine.platform().calls(), calls, "neither mapped nor given back");
        fake::run_on(1);
        cache.fill_slot();
        fake::run_on(0);
        let _ = engine.decay();
    }
    assert_eq!(engine.platform().mapped(), up);
    engine.cpu_down(1).expect("CPU 0 stays");
    assert!(engine.decay().left, "its area");
    settle(&engine);
    let down = engine.platform().mapped();
    assert!(down + Area::bytes(engine.table().slots()) <= up, "{down} of {up} bytes are still mapped");
    engine.cpu_up(1).expect("CPU 1 comes back");
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.trim().expect("no callback");
    assert_eq!(engine.platform().mapped(), down, "trim does not wait for a period");
    valid(&engine, 0);
}

/// What was kept is found first, and then taken CPU by CPU.
#[test]
fn the_area_of_a_cpu_that_came_back_meanwhile_stays() {
    let engine = engine(3);
    let cache = Cache::new(&engine, "flapping", 64);
    for cpu in [2, 1, 0] {
        fake::run_on(cpu);
        cache.fill_slot();
    }
    let _ = engine.decay();
    [1, 2].into_iter().for_each(|cpu| engine.cpu_down(cpu).expect("CPU 0 stays"));
    let (user, mapped) = (engine.clone(), engine.platform().mapped());
    engine.platform().at_next_unmap(move || {
        let work = move || user.cpu_up(2).expect("it is down");
        std::thread::spawn(work).join().expect("no panic");
    });
    let _ = engine.no_decay();
    assert_eq!(mapped - engine.platform().mapped(), Area::bytes(engine.table().slots()), "that of CPU 1, and no other");
    assert!(engine.cpu_stats(2).expect("CPU 2 exists").has_area);
    fake::run_on(2);
    cache.fill_slot();
    assert_eq!(cache.figures().cpus, 2);
    valid(&engine, 0);
}

/// Whoever looks after memory may rest although a CPU came back within a period.
#[test]
fn a_cpu_that_came_back_leaves_nothing_to_decay() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "flapping", 64);
    fake::run_on(1);
    cache.fill_slot();
    fake::run_on(0);
    let _ = engine.decay();
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.cpu_up(1).expect("it is down");
    settle(&engine);
    assert!(engine.cpu_stats(1).expect("CPU 1 exists").has_area, "nothing of a CPU that is there decays");
    valid(&engine, 0);
}
