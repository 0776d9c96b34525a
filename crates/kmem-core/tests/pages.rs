//! The page heap: runs merge again, never overlap, are aligned, read as zero when they say so; obstacles and
//! exhaustion.

mod common;

use common::{Cache, E, Rng, books_of_pages, config, engine_of, own_granules, with_granules};
use kmem_core::internals::{self, Owner, Run, alloc_run, class_at, free_run, owner, resize_run, set_large};
use kmem_core::pages::GRANULE;
use kmem_core::{Population, classes};
use std::ptr::NonNull;

fn heap(granules: usize) -> E {
    engine_of(with_granules(1, granules), config(Population::OnFirstUse))
}

fn alloc(engine: &E, granules: usize, align: usize) -> Option<Run> {
    let run = alloc_run(engine, granules, align)?;
    assert_eq!(run.granules, granules);
    assert!(run.address.is_multiple_of(align.max(GRANULE)));
    Some(run)
}

fn free(engine: &E, run: Run) {
    // SAFETY: the run is the test's, and nobody uses it any more.
    unsafe { free_run(engine, run.address, run.granules) }
}

fn bytes(run: &mut Run) -> &mut [u8] {
    // SAFETY: the run is the test's.
    unsafe { std::slice::from_raw_parts_mut(run.address as *mut u8, run.granules * GRANULE) }
}

/// Every granule is where the statistics say.
fn consistent(engine: &E, used: usize) {
    assert_eq!(engine.page_stats().used, used, "{:?}", engine.page_stats());
    books_of_pages(engine);
}

#[test]
fn neighbours_merge_in_every_order_of_frees() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let engine = heap(64);
        let runs: Vec<_> = [3, 1, 5].map(|n| alloc(&engine, n, 1).expect("room")).to_vec();
        let guard = alloc(&engine, 1, 1).expect("room");
        order.iter().for_each(|n| free(&engine, runs[*n]));
        let whole = alloc(&engine, 9, 1).expect("room");
        assert_eq!(whole.address, runs[0].address, "nine granules in one piece again");
        free(&engine, whole);
        free(&engine, guard);
        consistent(&engine, 0);
    }
}

#[test]
fn the_shortest_run_that_is_long_enough_serves_and_of_equals_the_first() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let engine = heap(512);
        let mut guarded = |granules| {
            let run = alloc(&engine, granules, 1).expect("room");
            alloc(&engine, 1, 1).expect("room");
            run
        };
        // All of one bin, which is a list by time.
        let runs = [120, 80, 80, 100].map(&mut guarded);
        order.iter().for_each(|n| free(&engine, runs[*n]));
        for (granules, expected) in [(70, 1), (75, 2), (75, 3), (120, 0)] {
            let run = alloc(&engine, granules, 1).expect("room");
            assert_eq!(run.address, runs[expected].address, "{granules} granules, freed in the order {order:?}");
        }
    }
}

#[test]
fn random_runs_never_overlap_and_all_merge_in_the_end() {
    for seed in 0..4 {
        let engine = heap(512);
        let mut rng = Rng::new(seed);
        let mut held: Vec<Run> = Vec::new();
        let mut owner = vec![None; 512];
        let window = engine.heap().window().0;
        for step in 0..4_000usize {
            if rng.below(100) < if (step / 500) % 2 == 0 { 60 } else { 40 } {
                let align = if rng.one_in(4) { GRANULE << rng.below(5) } else { 1 };
                let granules = if rng.one_in(20) { 1 + rng.below(60) } else { 1 + rng.below(9) };
                let Some(run) = alloc(&engine, granules, align) else { continue };
                let first = (run.address - window) / GRANULE;
                for place in &mut owner[first..first + granules] {
                    assert_eq!(place.replace(step), None, "a granule was handed out twice");
                }
                // SAFETY: the run is the test's.
                unsafe { set_large(&engine, &run) };
                held.push(run);
            } else if !held.is_empty() {
                let mut run = rng.take(&mut held);
                let first = (run.address - window) / GRANULE;
                owner[first..first + run.granules].fill(None);
                if rng.one_in(4) {
                    // Longer or shorter where it lies, if that can be.
                    let granules = 1 + rng.below(2 * run.granules + 4);
                    // SAFETY: the run is the test's, and holds nothing.
                    let resize = |to| unsafe { resize_run(&engine, run.address, run.granules, to) };
                    if granules != run.granules && resize(granules) {
                        run.granules = granules;
                    }
                    for place in &mut owner[first..first + run.granules] {
                        assert_eq!(place.replace(step), None, "a granule was handed out twice");
                    }
                    assert_eq!(internals::owner(&engine, run.address), Owner::Large(run.granules));
                    held.push(run);
                } else {
                    free(&engine, run);
                }
            }
            if rng.one_in(300) {
                let _ = engine.no_decay();
            }
            if rng.one_in(300) {
                // More than there is: everything that is free is given up.
                let all = engine.alloc_large(512 * GRANULE, 1);
                assert_eq!(all.is_ok(), held.is_empty());
                if let Ok(all) = all {
                    // SAFETY: the run is ours.
                    unsafe { engine.free_bytes(all.address) };
                }
            }
            consistent(&engine, owner.iter().flatten().count());
        }
        while !held.is_empty() {
            let run = rng.take(&mut held);
            free(&engine, run);
        }
        consistent(&engine, 0);
        // Also what was given up, by way of whoever asks for more than there is otherwise.
        let all = engine.alloc_large(512 * GRANULE, 1).expect("everything is one run again").address;
        // SAFETY: the run is ours.
        unsafe { engine.free_bytes(all) };
        consistent(&engine, 0);
    }
}

#[test]
fn a_run_that_says_zero_is_zero() {
    let engine = heap(256);
    let mut rng = Rng::new(3);
    let mut held: Vec<Run> = Vec::new();
    let mut zeros = 0;
    let is = |run: &mut Run, byte: u8| bytes(run).chunks_exact(GRANULE).all(|granule| granule == [byte; GRANULE]);
    for _ in 0..250 {
        if held.len() < 12 {
            let mut run = alloc(&engine, 1 + rng.below(18), if rng.one_in(3) { 4 * GRANULE } else { 1 }).expect("room");
            if run.zero {
                assert!(is(&mut run, 0));
                zeros += 1;
            }
            bytes(&mut run).fill(0xa5);
            held.push(run);
        } else {
            let mut run = rng.take(&mut held);
            assert!(is(&mut run, 0xa5), "its owner alone writes to it");
            free(&engine, run);
        }
        if rng.one_in(40) {
            let _ = engine.no_decay();
        }
    }
    assert!(zeros > 10, "{zeros}");
}

#[test]
fn purged_runs_are_zero_and_counted() {
    let engine = heap(4096);
    // Up to 2,048 granules memory stays for the next one; beyond that it goes at once.
    let (mut small, mut large) = (alloc(&engine, 1020, 1).expect("room"), alloc(&engine, 2052, 1).expect("room"));
    let guard = alloc(&engine, 1, 1).expect("room");
    bytes(&mut small).fill(1);
    bytes(&mut large).fill(1);
    free(&engine, large);
    assert_eq!((engine.page_stats().dirty, engine.page_stats().clean >= 2052), (0, true));
    free(&engine, small);
    // They are neighbours, and stay two runs: what is clean stays so.
    assert_eq!(engine.page_stats().dirty, 1020);
    assert_eq!(engine.no_decay().bytes, 1020 * GRANULE);
    assert_eq!(engine.page_stats().dirty, 0);
    let mut again = alloc(&engine, 3072, 1).expect("one run by now");
    assert!(again.zero && again.address == small.address && bytes(&mut again).iter().all(|byte| *byte == 0));
    free(&engine, again);
    free(&engine, guard);
    assert_eq!(engine.no_decay().bytes, GRANULE, "the large one went at once");
}

#[test]
fn free_runs_hold_exactly_as_much_as_they_may() {
    let engine = heap(12_000);
    let mut guarded = |granules| {
        let run = alloc(&engine, granules, 1).expect("room");
        alloc(&engine, 1, 1).expect("room");
        run
    };
    let [long, one, shorter, another] = [2048, 4, 512, 4].map(&mut guarded);
    // 32 MiB, in one run or several; beyond that half of it goes.
    free(&engine, long);
    assert_eq!(engine.page_stats().dirty, 2048);
    free(&engine, one);
    assert_eq!(engine.page_stats().dirty, 1024);
    let _ = engine.no_decay();
    // 8 MiB, where a run takes memory afresh that is long enough to be worth it.
    free(&engine, shorter);
    alloc(&engine, 2400, 1).expect("room");
    assert_eq!(engine.page_stats().dirty, 512);
    free(&engine, another);
    let short = alloc(&engine, 60, 1024 * GRANULE).expect("room");
    assert_eq!((short.zero, engine.page_stats().dirty), (true, 516 - 60), "what was too short goes");
    let long = alloc(&engine, 64, 1024 * GRANULE).expect("room");
    assert_eq!((long.zero, engine.page_stats().dirty), (true, 456), "little is not worth a call");
}

#[test]
fn aligned_runs_leave_their_padding_for_others() {
    let engine = heap(128);
    let first = alloc(&engine, 1, 1).expect("room");
    let aligned = alloc(&engine, 2, 32 * GRANULE).expect("room");
    // The padding before it is free, and merges with what is freed before it.
    free(&engine, first);
    free(&engine, aligned);
    let all = alloc(&engine, 128, 1).expect("everything is one run again");
    free(&engine, all);
    for align in [0, 1, 4096, GRANULE, 64 * GRANULE] {
        let run = alloc(&engine, 3, align).expect("room");
        free(&engine, run);
    }
    assert_eq!(alloc(&engine, 1, 1 << 63), None);
    assert_eq!(alloc(&engine, usize::MAX, 1 << 20), None);
    assert_eq!(alloc(&engine, 0, 1), None);
}

#[test]
fn padding_of_a_fresh_run_merges_with_the_free_run_before_it() {
    let (engine, mut rng) = (heap(1024), Rng::new(5));
    // A free run at the end of what was handed out, then an aligned one behind it.
    let head = alloc(&engine, 1, 1).expect("room");
    let tail = alloc(&engine, 1 + rng.below(3), 1).expect("room");
    free(&engine, tail);
    let aligned = alloc(&engine, 30, 64 * GRANULE).expect("room");
    let before = (aligned.address - head.address) / GRANULE - 1;
    let _ = engine.no_decay();
    let gap = alloc(&engine, before, 1).expect("all between the two is one run");
    assert_eq!(gap.address, head.address + GRANULE);
}

#[test]
fn exhaustion_is_an_error_and_frees_bring_it_back() {
    let engine = heap(100);
    for _ in 0..3 {
        let mut held = Vec::new();
        while let Some(run) = alloc(&engine, 7, 1) {
            held.push(run);
        }
        assert_eq!(held.len(), 14);
        assert_eq!(alloc(&engine, 7, 1), None);
        let rest = alloc(&engine, 2, 1).expect("the last two");
        assert_eq!(alloc(&engine, 1, 1), None);
        free(&engine, rest);
        held.drain(..).for_each(|run| free(&engine, run));
        consistent(&engine, 0);
    }
}

#[test]
fn commit_refused_is_an_error_and_a_smaller_step_is_tried() {
    let engine = heap(256);
    let platform = engine.platform();
    let first = alloc(&engine, 1, 1).expect("memory");
    let before = engine.page_stats().committed;
    platform.fail_nth(0);
    // The full step fails, the least one does not.
    let run = alloc(&engine, 40, 1).expect("a smaller step");
    assert_eq!(engine.page_stats().committed, 41);
    assert!(before < 41);
    platform.fail_from(0);
    assert_eq!(alloc(&engine, 1, 1), None);
    free(&engine, run);
    let again = alloc(&engine, 40, 1).expect("what is committed stays usable");
    assert_eq!(alloc(&engine, 4, 1), None);
    platform.fail_never();
    let more = alloc(&engine, 50, 1).expect("memory is back");
    for run in [first, again, more] {
        free(&engine, run);
    }
    consistent(&engine, 0);
}

#[test]
fn obstacles_in_the_window_are_stepped_over() {
    for (first, granules) in [(0, 1), (20, 4), (127, 2), (128, 128), (160, 800), (400, 12)] {
        let engine = heap(1920);
        engine.platform().obstruct(own_granules(1920) + first, granules);
        let window = engine.heap().window().0;
        let mut held = Vec::new();
        while let Some(run) = alloc(&engine, 6, 1) {
            let start = (run.address - window) / GRANULE;
            assert!(start + 6 <= first || start >= first + granules, "a run lies in the obstacle at {first}");
            held.push(run);
        }
        let used = held.len() * 6;
        let stats = engine.page_stats();
        consistent(&engine, used);
        assert!(stats.skipped >= granules && stats.skipped <= granules + 256, "{first}, {granules}: {stats:?}");
        assert!(used >= 1920 - stats.skipped - 12, "{first}, {granules}: {stats:?}");
        held.drain(..).for_each(|run| free(&engine, run));
        consistent(&engine, 0);
    }
}

#[test]
fn what_is_left_before_an_obstacle_serves() {
    let engine = heap(1024);
    let (window, _) = engine.heap().window();
    let first = alloc(&engine, 20, 1).expect("room");
    let committed = engine.page_stats().committed;
    engine.platform().obstruct(own_granules(1024) + committed, 1);
    let committed = window + committed * GRANULE;
    let behind = alloc(&engine, 20, 1).expect("room behind the obstacle");
    assert!(behind.address > committed);
    let left = (committed - first.address) / GRANULE - 20;
    assert!(left > 0);
    let between = alloc(&engine, left, 1).expect("room before it");
    assert_eq!(between.address + left * GRANULE, committed);
}

/// The platform of the tests refuses what is committed twice; here is where that would come from.
#[test]
fn what_was_committed_ahead_goes_back_with_the_runs_before_it() {
    let engine = heap(256);
    let long = alloc(&engine, 200, 1).expect("room");
    let table = engine.platform().committed() - engine.page_stats().committed * GRANULE;
    let short = alloc(&engine, 10, 1).expect("room");
    free(&engine, short);
    assert!(engine.page_stats().committed > 210, "a step ahead");
    assert!(engine.alloc_bytes(100 * GRANULE, 1).is_err(), "this gives up all that is free");
    assert_eq!(engine.page_stats().committed, 200);
    assert_eq!(engine.platform().committed(), table + 200 * GRANULE);
    let rest = alloc(&engine, 56, 1).expect("all but the long one, in one piece");
    [long, rest].into_iter().for_each(|run| free(&engine, run));
    consistent(&engine, 0);
}

/// Between the day on which the address space of a run went back and the day on which it shall serve again, something
/// else came to lie there.
#[test]
fn a_run_that_was_given_up_and_is_taken_by_then_is_left_alone() {
    let engine = heap(256);
    let (run, _guard) = (alloc(&engine, 20, 1).expect("room"), alloc(&engine, 1, 1).expect("room"));
    free(&engine, run);
    assert!(engine.alloc_bytes(250 * GRANULE, 1).is_err(), "this gives up all that is free");
    assert_eq!(engine.page_stats().raw, 20);
    engine.platform().obstruct((run.address - engine.heap().window().0) / GRANULE + 3, 1);
    let other = alloc(&engine, 10, 1).expect("room elsewhere");
    assert!(other.address > run.address + 20 * GRANULE);
    assert_eq!((engine.page_stats().raw, engine.page_stats().skipped), (0, 20), "nobody tries it again");
    consistent(&engine, 11);
}

#[test]
fn an_obstacle_at_a_step_of_the_granule_table_is_stepped_over() {
    // Entries exist up to a multiple of 4,096 granules; the obstacle is there.
    let engine = heap(4_800);
    let (window, _) = engine.heap().window();
    let most = alloc(&engine, 3_900, 1).expect("room");
    engine.platform().obstruct(own_granules(4_800) + 4_080, 20);
    assert_eq!(alloc(&engine, 600, 1), None, "longer than the rest of the window");
    for granules in [100, 200] {
        let run = alloc(&engine, granules, 1).expect("room behind the obstacle");
        assert!((run.address - window) / GRANULE >= 4_100);
    }
    free(&engine, most);
}

#[test]
fn a_window_that_is_taken_everywhere_is_an_error() {
    let engine = heap(1024);
    engine.platform().obstruct(own_granules(1024), 1024);
    assert_eq!(alloc(&engine, 1, 1), None);
    assert_eq!(alloc(&engine, 1, 1), None);
    consistent(&engine, 0);
}

#[test]
fn the_granule_table_knows_who_owns_what() {
    let engine = heap(64);
    let (window, granules) = engine.heap().window();
    assert_eq!(owner(&engine, window), Owner::None);
    assert_eq!(owner(&engine, window.wrapping_sub(1)), Owner::None);
    assert_eq!(owner(&engine, window + granules * GRANULE), Owner::None);
    let run = alloc(&engine, 4, 1).expect("room");
    assert_eq!(owner(&engine, run.address), Owner::None, "handed out, but nothing yet");
    // SAFETY: the run is the test's.
    unsafe { set_large(&engine, &run) };
    assert_eq!(owner(&engine, run.address + 5), Owner::Large(4));
    assert_eq!(owner(&engine, run.address + 4 * GRANULE - 1), Owner::LargeTail);
    free(&engine, run);
    // A slab of one granule, of a class, and one of several, of none.
    let general = engine.alloc_bytes(30_000, 1).expect("memory").address.as_ptr() as usize;
    let long = Cache::new(&engine, "long", 100_000);
    let object = long.alloc();
    let granules = long.desc().layout().granules;
    assert!(granules > 1);
    for (object, granules, class) in [(general, 1, classes::class_of(30_000)), (object, granules, None)] {
        let (first, class) = (object & !(GRANULE - 1), class.unwrap_or(0));
        let Owner::Slab(slab) = owner(&engine, object) else { panic!("a slab covers its object") };
        for n in 0..granules {
            assert_eq!(owner(&engine, first + n * GRANULE), Owner::Slab(slab));
            assert_eq!(class_at(&engine, first + n * GRANULE), class);
        }
    }
    long.free(object);
    // SAFETY: the object is the test's.
    unsafe { engine.free_bytes(NonNull::new(general as *mut u8).expect("an address")) };
    engine.trim().expect("not in a callback");
    for granule in (general & !(GRANULE - 1)..).step_by(GRANULE).take(1 + granules) {
        assert_eq!((owner(&engine, granule), class_at(&engine, granule)), (Owner::None, 0));
    }
    assert_eq!(class_at(&engine, 0), 0);
}
