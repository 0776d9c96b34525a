//! Every allocation failed in turn (I12, I22): at the making of an engine, create, the first alloc, a bulk, a CPU
//! coming up, growth, destroy and shrink.
//!
//! Each test runs its operation with the n-th call for memory failing, for n from 0 until it succeeds with none left to
//! fail, and again with all calls from the n-th on failing. After each failure everything is as before, the engine is
//! valid, and a retry with memory works.

mod common;

use common::{Cache, E, Footprint, config, distinct, engine_of, spec, valid, with_room};
use kmem_core::{AllocError, CreateError, Engine, HotplugError, Population};
use kmem_sim::fake::{self, Fake, Machine};

#[derive(Clone, Copy, Debug)]
enum Failing {
    One,
    AllFrom,
}

const POPULATIONS: [Population; 2] = [Population::OnFirstUse, Population::Eager];

fn arm(platform: &Fake, failing: Failing, n: usize) {
    match failing {
        Failing::One => platform.fail_nth(n),
        Failing::AllFrom => platform.fail_from(n),
    }
}

/// Calls `operation` with a new world from `make`, with every call for memory failing in turn, in every population,
/// until it makes fewer calls than that. `operation` answers whether it succeeded.
fn each_failure(make: impl Fn(Population) -> E, operation: impl Fn(&E) -> bool) {
    for population in POPULATIONS {
        for failing in [Failing::One, Failing::AllFrom] {
            let mut failures = 0;
            for n in 0.. {
                let engine = make(population);
                fake::run_on(0);
                let calls = engine.platform().calls();
                arm(engine.platform(), failing, n);
                let succeeded = operation(&engine);
                let reached = engine.platform().calls() - calls > n;
                engine.platform().fail_never();
                valid(&engine, 0);
                assert!(succeeded || reached, "{population:?} {failing:?} {n}: it failed although it had memory");
                failures += usize::from(!succeeded);
                if !succeeded {
                    assert!(operation(&engine), "{population:?} {failing:?} {n}: a retry works");
                    valid(&engine, 0);
                }
                if !reached {
                    break;
                }
                assert!(n < 500, "it ends");
            }
            eprintln!("{population:?} {failing:?}: {failures} failures");
        }
    }
}

fn plain(population: Population) -> E {
    engine_of(Machine { online: [0, 1].into_iter().collect(), nodes: 2, ..Machine::with_cpus(4) }, config(population))
}

/// Small caches that fit into the chunk that the metadata arena has, `most` at most.
fn fill_arena(engine: &E, name: &str, most: usize) -> usize {
    for n in 0..most {
        let bytes = engine.meta_bytes();
        Cache::new(engine, &format!("{name} {n}"), 8192);
        if engine.meta_bytes() > bytes {
            return n;
        }
    }
    most
}

/// The same with the metadata arena's chunk used up but for so many small caches and some bytes: so each of the pieces
/// that an operation needs, the first one and those after it, is in some world the one that needs a call.
fn scarce(population: Population, spare: usize) -> E {
    // What the engine itself left of its chunk may be less than is to be spared: a new chunk is begun.
    let begun = || {
        let engine = plain(population);
        fill_arena(&engine, "first", usize::MAX);
        engine
    };
    let most = fill_arena(&begun(), "filler", usize::MAX);
    let engine = begun();
    assert_eq!(fill_arena(&engine, "filler", most - spare), most - spare);
    engine
}

/// [`each_failure`] in scarce worlds.
fn each_failure_in_scarcity(operation: impl Fn(&E) -> bool) {
    for spare in 0..5 {
        each_failure(|population| scarce(population, spare), &operation);
    }
}

#[test]
fn an_engine_that_cannot_be_made_leaves_nothing_mapped() {
    for population in POPULATIONS {
        for n in 0.. {
            let fake = Fake::new(Machine::with_cpus(2));
            fake.fail_nth(n);
            // The platform goes with the engine that was not made: what it still had mapped is seen in its last words.
            let mapped = fake.mapped_when_dropped();
            match Engine::new(fake, config(population)) {
                Ok(_) => {
                    assert!(n > 5, "tables, maps and the arena are calls of their own");
                    break;
                }
                Err(AllocError) => assert_eq!(*mapped.lock().expect("no panic"), Some(0), "{population:?}, call {n}"),
            }
        }
    }
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    each_failure_in_scarcity(|engine| {
        let before = Footprint::of(engine);
        match Cache::of(engine, &spec("new", 64)) {
            Ok(cache) => {
                cache.destroy().expect("unused");
                true
            }
            Err(error) => {
                assert_eq!(error, CreateError::NoMemory);
                assert_eq!(Footprint::of(engine), before, "I12");
                false
            }
        }
    });
}

#[test]
fn an_alloc_that_fails_leaves_nothing() {
    each_failure_in_scarcity(|engine| {
        let cache = Cache::new_or(engine, "first");
        let Some(cache) = cache else { return false };
        let result = cache.try_alloc();
        if let Ok(object) = result {
            cache.free(object);
        }
        cache.destroy().expect("nobody uses it");
        result.is_ok()
    });
}

#[test]
fn a_bulk_gets_what_there_is_and_loses_nothing() {
    each_failure(plain, |engine| {
        let Some(cache) = Cache::new_or(engine, "bulk") else { return false };
        let objects = cache.try_bulk(5000);
        assert!(distinct(&objects));
        assert_eq!(cache.figures().live, objects.len());
        valid(engine, objects.len());
        cache.free_bulk(&objects);
        cache.destroy().expect("nobody uses it");
        objects.len() == 5000
    });
}

#[test]
fn a_cpu_that_cannot_come_up_is_as_it_was() {
    each_failure_in_scarcity(|engine| {
        let before = Footprint::of(engine);
        match engine.cpu_up(3) {
            Ok(()) => {
                engine.cpu_down(3).expect("others stay");
                assert_eq!(Footprint::of(engine), before, "I26");
                true
            }
            Err(error) => {
                assert_eq!(error, HotplugError::NoMemory { cpu: 3 });
                assert_eq!(Footprint::of(engine), before, "I22");
                assert!(!engine.online_cpus().contains(3));
                false
            }
        }
    });
}

#[test]
fn a_thread_on_a_cpu_that_cannot_come_up_is_served() {
    each_failure(plain, |engine| {
        let Some(cache) = Cache::new_or(engine, "served") else { return false };
        let stock = cache.try_bulk(10);
        let (most, rest) = stock.split_at(stock.len().min(9));
        cache.free_bulk(most);
        // CPU 0's slot has its objects; these come from the depot or a slab.
        fake::run_on(2);
        let object = cache.try_alloc();
        if let Ok(object) = object {
            cache.free(object);
        }
        fake::run_on(0);
        cache.free_bulk(rest);
        valid(engine, 0);
        let served = object.is_ok();
        cache.destroy().expect("nobody uses it");
        served
    });
}

#[test]
fn shrink_destroy_and_down_need_no_memory() {
    for population in POPULATIONS {
        for rounds in 0..3 {
            let engine = scarce(population, 3);
            let cache = Cache::new(&engine, "full", 128);
            let mut objects = Vec::new();
            for cpu in [0, 1] {
                fake::run_on(cpu);
                objects.extend(cache.bulk(1000));
            }
            let half = objects.split_off(1000);
            cache.free_bulk(&half);
            engine.platform().fail_from(0);
            match rounds {
                0 => _ = cache.shrink(),
                1 => engine.cpu_down(1).expect("CPU 0 stays (I24)"),
                _ => _ = cache.destroy().expect_err("busy"),
            }
            valid(&engine, 1000);
            fake::run_on(0);
            cache.free_bulk(&objects);
            cache.destroy().expect("nobody uses it");
            engine.trim().expect("not in a callback");
            assert_eq!(engine.page_stats().used, 0);
            valid(&engine, 0);
        }
    }
}

#[test]
fn growth_without_memory_leaves_the_magazine_as_it_is() {
    let engine = plain(Population::OnFirstUse);
    let cache = Cache::new(&engine, "still", 16);
    let mut objects = cache.bulk(4000);
    cache.free_bulk(&objects);
    // From here on memory is out; growth is tried again and again.
    engine.platform().fail_from(0);
    for _ in 0..40 {
        objects = cache.try_bulk(3000);
        assert_eq!(objects.len(), 3000);
        assert!(distinct(&objects));
        cache.free_bulk(&objects);
    }
    valid(&engine, 0);
}

#[test]
fn without_memory_objects_of_another_node_serve() {
    // One granule: the slab of node 1 is all there is.
    let engine = engine_of(Machine { nodes: 2, ..with_room(2, 1) }, config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "far", 256);
    fake::run_on(1);
    let mut objects = cache.bulk(200);
    let keep = objects.split_off(1);
    cache.free(objects[0]);
    cache.free_bulk(&keep[..100]);
    // Everything that is free is on the slabs of node 1, whose slab stays for the objects that are held.
    cache.shrink();
    let free = cache.figures().free;
    assert!(free >= 101);
    fake::run_on(0);
    let mut found = Vec::new();
    while let Ok(object) = cache.try_alloc() {
        found.push(object);
    }
    assert!(distinct(&[found.as_slice(), &keep[100..]].concat()));
    assert_eq!(found.len(), free, "free objects on another node's slabs are memory too");
    cache.free_bulk(&found);
    cache.free_bulk(&keep[100..]);
    valid(&engine, 0);
}

#[test]
fn maps_that_became_longer_in_part_become_so_the_next_time() {
    // The maps of a window come in steps of 4096 granules.
    let make = |population| engine_of(Machine { granules: 4 * 4096, ..Machine::with_cpus(1) }, config(population));
    each_failure(make, |engine| {
        let Ok(large) = engine.alloc_bytes(100 << 20, 16) else { return false };
        // SAFETY: the memory is ours.
        unsafe { engine.free_bytes(large.address) };
        true
    });
}
