//! CPUs that go and come: the state table, the edges, and what is left on a CPU that is gone (I3 to I5, I8, I22 to I26,
//! I43, I44).

mod common;

use common::{Cache, Footprint, config, distinct, eager, engine, engine_of, listen, valid};
use kmem_core::cpu::{CpuSet, CpuState as S, Event, Refused};
use kmem_core::internals::CpuEvent as E;
use kmem_core::{HotplugError, Population};
use kmem_sim::fake::{self, Machine};
use std::sync::atomic::Ordering;

#[test]
fn every_state_knows_every_event() {
    const EVENTS: [E; 7] = [E::Prepare, E::Cancel, E::Online, E::Down, E::DownFailed, E::Drained, E::Reclaimed];
    const STATES: [S; 5] = [S::Offline, S::Prepared, S::Online, S::Draining, S::Dead];
    let table: [[Option<S>; 7]; 5] = [
        // Prepare         Cancel            Online           Down               DownFailed       Drained
        // Reclaimed
        [Some(S::Prepared), Some(S::Offline), None, None, None, None, Some(S::Offline)],
        [Some(S::Prepared), Some(S::Offline), Some(S::Online), None, None, None, None],
        [None, None, None, Some(S::Draining), None, None, None],
        [None, None, None, None, Some(S::Online), Some(S::Dead), None],
        [None, None, None, None, None, None, Some(S::Offline)],
    ];
    for (state, row) in STATES.iter().zip(table) {
        for (event, next) in EVENTS.iter().zip(row) {
            assert_eq!(state.next(*event), next, "{event:?} in {state:?}");
        }
    }
    // Undoing and finishing are idempotent where they are allowed (I23).
    assert_eq!(S::Prepared.next(E::Cancel).and_then(|s| s.next(E::Cancel)), Some(S::Offline));
    assert_eq!(S::Dead.next(E::Reclaimed).and_then(|s| s.next(E::Reclaimed)), Some(S::Offline));
}

#[test]
fn bad_transitions_are_refused_and_change_nothing() {
    let engine = engine(2);
    let refused = |result, error: HotplugError| {
        assert_eq!(result, Err(error));
        assert!(!error.to_string().is_empty());
        assert_eq!(engine.online_cpus(), CpuSet::first(2));
    };
    for cpu in [2, 1023, 1024, usize::MAX] {
        refused(engine.cpu_up(cpu), HotplugError::OutOfRange { cpu, possible: 2 });
        refused(engine.cpu_down(cpu), HotplugError::OutOfRange { cpu, possible: 2 });
        refused(engine.cpu_left(cpu), HotplugError::OutOfRange { cpu, possible: 2 });
    }
    refused(engine.cpu_up(1), HotplugError::AlreadyOnline { cpu: 1 });
    engine.cpu_down(0).expect("CPU 1 stays");
    assert_eq!(engine.cpu_down(0), Err(HotplugError::AlreadyOffline { cpu: 0 }));
    assert_eq!(engine.cpu_left(0), Err(HotplugError::AlreadyOffline { cpu: 0 }));
    assert_eq!(engine.cpu_down(1), Err(HotplugError::LastCpu { cpu: 1 }), "I43");
    assert_eq!(engine.cpu_left(1), Err(HotplugError::LastCpu { cpu: 1 }), "I43");
    engine.cpu_up(0).expect("it is down");
    valid(&engine, 0);
}

#[test]
fn with_one_cpu_left_everything_works() {
    for engine in [engine(4), eager(4)] {
        let cache = Cache::new(&engine, "alone", 64);
        let mut held = Vec::new();
        for cpu in 0..4 {
            fake::run_on(cpu);
            held.extend(cache.bulk(300));
        }
        [0, 1, 3].iter().for_each(|cpu| engine.cpu_down(*cpu).expect("CPU 2 stays"));
        for cpu in 0..4 {
            fake::run_on(cpu);
            let objects = cache.bulk(200);
            assert!(distinct(&[objects.as_slice(), &held].concat()));
            cache.free_bulk(&objects);
        }
        let other = Cache::new(&engine, "new", 32);
        other.free(other.alloc());
        other.destroy().expect("nobody uses it");
        cache.free_bulk(&held);
        cache.shrink();
        valid(&engine, 0);
        assert!(cache.figures().cpus <= 1);
    }
}

#[test]
fn after_down_a_slot_is_empty_and_disabled() {
    for engine in [engine(3), eager(3)] {
        let caches: Vec<_> = (0..5).map(|n| Cache::new(&engine, &format!("cache {n}"), 32 << n)).collect();
        fake::run_on(1);
        let held: Vec<_> = caches.iter().map(|cache| cache.bulk(130)).collect();
        caches.iter().for_each(Cache::fill_slot);
        let cpus: Vec<_> = caches.iter().map(|cache| cache.figures().cpus).collect();
        engine.cpu_down(1).expect("others stay");
        assert_eq!(engine.table().get(1), engine.table().empty(), "its area is nobody's any more (I36)");
        for (cache, cpus) in caches.iter().zip(cpus) {
            let figures = cache.figures();
            assert_eq!(figures.cpus, cpus - 1, "I8");
            assert_eq!((figures.live, figures.in_slots), (130, 0), "I8");
            // What was there is in everybody's reach.
            assert!(figures.in_depot > 0);
        }
        valid(&engine, 650);
        for (cache, objects) in caches.iter().zip(&held) {
            cache.free_bulk(objects);
        }
        // Frees by a thread that still runs on CPU 1 went elsewhere (I3).
        assert!(caches.iter().all(|cache| cache.figures().in_slots == 0));
        valid(&engine, 0);
    }
}

#[test]
fn a_cpu_that_was_taken_down_stays_down_and_one_that_left_comes_back_by_itself() {
    let engine = engine(3);
    let cache = Cache::new(&engine, "come back", 64);
    engine.cpu_down(1).expect("others stay");
    engine.cpu_left(2).expect("others stay");
    for cpu in [1, 2] {
        fake::run_on(cpu);
        cache.free_bulk(&cache.bulk(300));
    }
    assert!(!engine.online_cpus().contains(1));
    assert!(engine.online_cpus().contains(2));
    engine.cpu_up(1).expect("it is down");
    fake::run_on(1);
    cache.fill_slot();
    assert_eq!(cache.figures().cpus, 2);
    // A CPU that left is taken down by name: it was down already, and now it is held.
    engine.cpu_left(2).expect("others stay");
    assert_eq!(engine.cpu_down(2), Err(HotplugError::AlreadyOffline { cpu: 2 }));
    fake::run_on(2);
    cache.free_bulk(&cache.bulk(300));
    assert!(!engine.online_cpus().contains(2));
    fake::run_on(1);
    // Up by name ends the hold: from now on it may leave and come.
    engine.cpu_left(1).expect("others stay");
    cache.free_bulk(&cache.bulk(300));
    assert!(engine.online_cpus().contains(1));
    valid(&engine, 0);
}

#[test]
fn a_cpu_that_nobody_prepared_comes_up_with_its_first_thread() {
    let machine = Machine { possible: 64, online: [5].into_iter().collect(), ..Machine::with_cpus(64) };
    for population in [Population::OnFirstUse, Population::Eager] {
        let engine = engine_of(machine.clone(), config(population));
        let cache = Cache::new(&engine, "adopt", 64);
        for cpu in [0, 63, 5, 17] {
            fake::run_on(cpu);
            cache.fill_slot();
            assert!(engine.online_cpus().contains(cpu));
        }
        assert_eq!(cache.figures().cpus, 4);
        valid(&engine, 0);
    }
}

#[test]
fn down_and_up_again_leaves_memory_as_it_was() {
    for engine in [engine(4), eager(4)] {
        let caches: Vec<_> = (0..8).map(|n| Cache::new(&engine, &format!("cache {n}"), 24 << n)).collect();
        let round = || {
            for cpu in 0..4 {
                fake::run_on(cpu);
                caches.iter().for_each(|cache| cache.free_bulk(&cache.bulk(100)));
            }
            for cpu in [1, 2, 3] {
                engine.cpu_down(cpu).expect("CPU 0 stays");
            }
            for cpu in [3, 1, 2] {
                engine.cpu_up(cpu).expect("it is down");
            }
            engine.trim().expect("not in a callback");
            [
                Footprint::of(&engine).meta_used,
                engine.platform().mapped(),
                engine.page_stats().used,
                engine.page_stats().committed,
            ]
        };
        // The first rounds find out how many granules all of it takes at most.
        (0..10).for_each(|_| _ = round());
        let before = round();
        (0..50).for_each(|_| _ = round());
        assert_eq!(round(), before, "I26");
        valid(&engine, 0);
    }
}

#[test]
fn a_hint_that_is_stale_or_out_of_range_costs_locality_only() {
    let machine = Machine { hint_lies: true, nodes: 2, ..Machine::with_cpus(3) };
    let engine = engine_of(machine, config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "lied to", 64);
    let mut held = Vec::new();
    for round in 0..200 {
        fake::run_on(round % 5);
        held.extend(cache.bulk(round % 90));
        let half = held.split_off(held.len() / 2);
        assert!(distinct(&[held.as_slice(), &half].concat()));
        cache.free_bulk(&half);
        match round % 20 {
            7 => engine.cpu_down(1).expect("others stay"),
            13 => engine.cpu_up(1).expect("it is down"),
            _ => {}
        }
    }
    valid(&engine, held.len());
    cache.free_bulk(&held);
    cache.destroy().expect("nobody uses it");
    // A thread without a CPU number, and numbers that no CPU has (I5).
    let cache = Cache::new(&engine, "nowhere", 64);
    for cpu in [3, 1023, 1024, usize::MAX] {
        fake::run_on(cpu);
        fake::believe(Some(cpu));
        cache.free_bulk(&cache.bulk(100));
    }
    assert_eq!(cache.figures().in_slots, 0);
    valid(&engine, 0);
}

#[test]
fn machines_of_all_shapes() {
    let holes: CpuSet = [2, 63, 64, 100].into_iter().collect();
    let shapes = [
        Machine::with_cpus(1),
        Machine { possible: 128, online: holes, nodes: 4, ..Machine::with_cpus(128) },
        Machine { nodes: 7, ..Machine::with_cpus(3) },
        Machine { nodes: 8, ..Machine::with_cpus(1024) },
        Machine { possible: 4, online: CpuSet::new(), ..Machine::with_cpus(4) },
        Machine { possible: 4, online: CpuSet::of(9), ..Machine::with_cpus(4) },
    ];
    for machine in shapes {
        for population in [Population::OnFirstUse, Population::Eager] {
            let engine = engine_of(machine.clone(), config(population));
            let first = engine.online_cpus().iter().next().expect("a CPU");
            let cache = Cache::new(&engine, "any", 64);
            let mut held = Vec::new();
            for cpu in (0..engine.possible_cpus()).step_by(engine.possible_cpus().div_ceil(20)) {
                fake::run_on(cpu);
                held.extend(cache.bulk(70));
                cache.free_bulk(&held.split_off(held.len() - 20));
            }
            assert!(distinct(&held));
            valid(&engine, held.len());
            for cpu in engine.online_cpus().iter().filter(|cpu| *cpu != first) {
                engine.cpu_down(cpu).expect("the first stays");
            }
            assert_eq!(engine.cpu_down(first), Err(HotplugError::LastCpu { cpu: first }));
            valid(&engine, held.len());
            cache.free_bulk(&held);
            cache.destroy().expect("nobody uses it");
            assert_eq!(engine.page_stats().used, 0);
        }
    }
}

#[test]
fn a_node_without_a_cpu_keeps_its_memory() {
    let engine = engine_of(Machine { nodes: 2, ..Machine::with_cpus(4) }, config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "node", 64);
    fake::run_on(1);
    let held = cache.bulk(300);
    engine.cpu_down(1).expect("others stay");
    engine.cpu_down(3).expect("others stay");
    fake::run_on(0);
    cache.free_bulk(&held[..200]);
    valid(&engine, 100);
    cache.shrink();
    cache.free_bulk(&held[200..]);
    cache.destroy().expect("nobody uses it (I44)");
    assert_eq!(engine.page_stats().used, 0);
}

#[test]
fn a_refused_preparation_has_no_effect_and_can_be_tried_again() {
    for engine in [engine(2), eager(2)] {
        let cache = Cache::new(&engine, "prepared", 64);
        engine.cpu_down(1).expect("CPU 0 stays");
        let before = (Footprint::of(&engine), cache.figures());
        let refusing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        listen(&engine, {
            let refusing = refusing.clone();
            move |event, _| {
                let refuse = event == Event::UpPrepare && refusing.load(std::sync::atomic::Ordering::Relaxed);
                if refuse { Err(Refused) } else { Ok(()) }
            }
        });
        for _ in 0..3 {
            assert_eq!(engine.cpu_up(1), Err(HotplugError::Refused { cpu: 1 }));
            assert_eq!((Footprint::of(&engine), cache.figures()), before, "I22");
            valid(&engine, 0);
        }
        refusing.store(false, std::sync::atomic::Ordering::Relaxed);
        engine.cpu_up(1).expect("nobody refuses now");
        fake::run_on(1);
        cache.fill_slot();
        assert!(cache.figures().cpus > 0);
        valid(&engine, 0);
    }
}

/// Sections in assembly look up the number that they find, whatever it is (I3, I5).
#[test]
fn numbers_of_no_cpu_and_of_hidden_ones_lead_to_the_empty_area() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "seen", 64);
    for cpu in [1, 0] {
        fake::run_on(cpu);
        cache.fill_slot();
    }
    let (entries, empty) = (engine.table().entries(), engine.table().empty().address());
    for number in -2..500 {
        // SAFETY: the table is a page at least, and begins with the numbers of threads without a CPU.
        let area = unsafe { entries.offset(number).as_ref() }.load(Ordering::Relaxed) as usize;
        assert_eq!(area != empty, (0..2).contains(&number), "{number}");
    }
}

#[test]
fn what_was_taken_out_of_the_slots_of_a_cpu_is_counted() {
    let engine = engine(2);
    let caches = [("small", 16), ("other", 1000)].map(|(name, size)| Cache::new(&engine, name, size));
    let drained = || engine.cpu_stats(1).expect("CPU 1 exists").drained;
    let mut expected = 0;
    for _ in 0..3 {
        fake::run_on(1);
        caches.iter().for_each(|cache| cache.free_bulk(&cache.bulk(100)));
        let cached = engine.cached_on(1).objects;
        assert!(cached > 20, "{cached}");
        fake::run_on(0);
        engine.cpu_down(1).expect("CPU 0 stays");
        expected += cached;
        assert_eq!(drained(), expected);
        engine.cpu_up(1).expect("it is down");
    }
    assert_eq!(engine.cpu_stats(0).expect("CPU 0 exists").drained, 0);
}
