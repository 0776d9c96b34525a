//! Destroying caches: Busy if and only if a user holds an object, nothing left behind, nothing of it ever seen again
//! (I10, I14 to I21).

mod common;

use common::{
    Cache, E, Footprint, bad_frees, config, distinct, eager, ends, engine, engine_of, recording, spec, valid,
};
use kmem_core::slab::FreeError;
use kmem_core::{Config, DestroyError, Population};
use kmem_sim::fake::{self, Machine};
use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

/// Allocates and frees on each of `cpus`, so that their slots hold something.
fn use_on(cache: &Cache, cpus: impl IntoIterator<Item = usize>) {
    for cpu in cpus {
        fake::run_on(cpu);
        cache.fill_slot();
    }
    fake::run_on(0);
}

#[test]
fn busy_names_the_exact_number_and_the_cache_stays_usable_everywhere() {
    for engine in [engine(4), eager(4)] {
        engine.cpu_down(3).expect("others stay");
        let cache = Cache::new(&engine, "busy", 64);
        let mut held = Vec::new();
        for cpu in 0..3 {
            fake::run_on(cpu);
            held.extend(cache.bulk(100 + cpu));
            cache.fill_slot();
        }
        for live in [303, 302, 301] {
            assert_eq!(cache.destroy(), Err(DestroyError::Busy { live }), "I16");
            valid(&engine, live);
            cache.free(held.pop().expect("a held object"));
        }
        // CPU 3 came up meanwhile: the cache works there too (I17).
        engine.cpu_up(3).expect("it is offline");
        use_on(&cache, 0..4);
        assert_eq!(cache.figures().cpus, 4);
        for cpu in 0..4 {
            fake::run_on(cpu);
            let objects = cache.bulk(500);
            assert!(distinct(&[objects.as_slice(), &held].concat()));
            cache.free_bulk(&objects);
        }
        cache.free_bulk(&held);
        cache.destroy().expect("nobody uses it");
        valid(&engine, 0);
    }
}

#[test]
fn objects_in_slots_and_depots_never_make_it_busy() {
    for nodes in [1, 3] {
        let engine = engine_of(Machine { nodes, ..Machine::with_cpus(6) }, config(Population::OnFirstUse));
        let cache = Cache::new(&engine, "cached", 64);
        let mut held = Vec::new();
        for cpu in 0..6 {
            fake::run_on(cpu);
            held.extend(cache.bulk(400));
        }
        // Freed on other CPUs than they came from.
        for (cpu, objects) in held.chunks(500).enumerate() {
            fake::run_on(5 - cpu % 6);
            cache.free_bulk(objects);
        }
        // CPUs that left by both ways (I16 over possible CPUs).
        engine.cpu_down(1).expect("others stay");
        engine.cpu_left(4).expect("others stay");
        cache.destroy().expect("users hold nothing (I16)");
        valid(&engine, 0);
    }
}

#[test]
fn frees_on_a_cpu_that_is_down_never_make_it_busy() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "away", 64);
    fake::run_on(1);
    let objects = cache.bulk(150);
    engine.cpu_down(1).expect("CPU 0 stays");
    // The thread still runs there.
    cache.free_bulk(&objects[..70]);
    let more = cache.bulk(10);
    cache.free_bulk(&more);
    assert_eq!(cache.destroy(), Err(DestroyError::Busy { live: 80 }));
    cache.free_bulk(&objects[70..]);
    cache.destroy().expect("users hold nothing");
    valid(&engine, 0);
}

#[test]
fn after_destroy_nothing_is_left() {
    for engine in [engine(3), eager(3)] {
        let mut before = Footprint::of(&engine);
        for round in 0..5 {
            let cache = Cache::new(&engine, "gone", 200);
            let mut objects = Vec::new();
            for cpu in 0..3 {
                fake::run_on(cpu);
                objects.extend(cache.bulk(3000));
            }
            cache.free_bulk(&objects);
            cache.destroy().expect("nobody uses it");
            assert_eq!(engine.page_stats().used, 0, "I10");
            if round == 0 {
                // The first use of a CPU maps its area.
                before.mapped_apart = Footprint::of(&engine).mapped_apart;
            }
            assert_eq!(Footprint::of(&engine), before, "I10");
        }
        valid(&engine, 0);
    }
}

#[test]
fn a_stale_id_names_nothing() {
    let engine = engine(2);
    let first = Cache::new(&engine, "first", 64);
    first.destroy().expect("unused");
    // The index is used again, under another generation.
    let second = Cache::new(&engine, "second", 64);
    assert_ne!(first.id, second.id);
    assert_eq!(first.destroy(), Err(DestroyError::NoSuchCache), "I20");
    assert_eq!(engine.shrink(first.id), Err(DestroyError::NoSuchCache));
    assert!(engine.descriptor(first.id).is_none());
    assert!(engine.with_stats(first.id, |_| ()).is_none());
    second.free(second.alloc());
    second.destroy().expect("nobody uses it");
    assert_eq!(second.destroy(), Err(DestroyError::NoSuchCache), "I20");
    valid(&engine, 0);
}

#[test]
fn an_index_that_is_used_again_never_shows_old_objects() {
    let engine = engine(4);
    let keep = Cache::new(&engine, "keep", 64);
    let kept = keep.bulk(10);
    for round in 0..100 {
        // Sizes differ, so an object of the last cache would be of the wrong size and place.
        let cache = Cache::new(&engine, "again", 32 << (round % 5));
        assert_eq!(cache.figures(), common::Figures::default(), "a new cache holds nothing");
        for cpu in 0..4 {
            fake::run_on(cpu);
            let objects = cache.bulk(150);
            assert!(objects.iter().all(|object| engine.usable_size(*object) == 32 << (round % 5)));
            assert!(distinct(&[objects.as_slice(), &kept].concat()));
            cache.free_bulk(&objects);
        }
        if round % 3 == 0 {
            engine.cpu_down(2).expect("others stay");
        }
        cache.destroy().expect("nobody uses it");
        if round % 3 == 1 && !engine.online_cpus().contains(2) {
            engine.cpu_up(2).expect("it is down");
        }
    }
    valid(&engine, 10);
}

#[test]
fn a_used_cache_costs_one_fence_and_an_unused_one_none() {
    fn cost(engine: &E, cpus: usize) -> usize {
        let cache = Cache::new(engine, "measured", 64);
        use_on(&cache, 0..cpus);
        let before = engine.platform().fence_count();
        cache.destroy().expect("nobody uses it");
        engine.platform().fence_count() - before
    }
    let engine = engine(8);
    assert_eq!([0, 1, 4, 8].map(|cpus| cost(&engine, cpus)), [0, 1, 1, 1]);
}

#[test]
fn six_thousand_caches_and_the_cost_of_one_does_not_depend_on_the_others() {
    let config = Config { max_caches: 6_200, ..config(Population::OnFirstUse) };
    let engine = engine_of(Machine { granules: 8192, ..Machine::with_cpus(2) }, config);
    let cost = |engine: &E| {
        let cache = Cache::new(engine, "measured", 64);
        use_on(&cache, [0, 1]);
        let platform = engine.platform();
        let before = (platform.fence_count(), platform.calls());
        cache.destroy().expect("nobody uses it");
        (platform.fence_count() - before.0, platform.calls() - before.1)
    };
    let alone = cost(&engine);
    let caches: Vec<_> = (0..6_000).map(|n| Cache::new(&engine, &format!("cache {n}"), 64)).collect();
    for cache in caches.iter().step_by(7) {
        use_on(cache, [0, 1]);
    }
    assert_eq!(cost(&engine), alone, "I21");
    assert_eq!(alone, (1, 0));
    // In an order that is neither theirs nor its opposite.
    (0..6_000).for_each(|n| caches[n * 4_001 % 6_000].destroy().expect("nobody uses it"));
    assert_eq!(engine.cache_count(), 0);
    assert_eq!(engine.page_stats().used, 0);
    valid(&engine, 0);
}

/// What happens on other CPUs while a destroy waits for its fence: the cache is dying, the slots are withdrawn.
fn during_destroy<R: Send + 'static>(
    cache: &Cache,
    code: impl FnOnce() -> R + Send + 'static,
) -> (Result<(), DestroyError>, R) {
    let (send, receive) = mpsc::channel();
    cache
        .engine
        .platform()
        .at_next_fence(move || send.send(std::thread::spawn(code).join().expect("no panic")).expect("the test waits"));
    let cache = cache.clone();
    let answer = ends(move || cache.destroy());
    (answer, receive.recv_timeout(common::patience()).expect("there was a fence"))
}

#[test]
fn a_dying_cache_gets_no_slot() {
    let engine = engine(4);
    let cache = Cache::new(&engine, "dying", 64);
    use_on(&cache, [0]);
    let other = cache.clone();
    // Nobody may do this with a cache that he destroys; the second defence holds all the same (I14, I15).
    let (answer, object) = during_destroy(&cache, move || {
        fake::run_on(2);
        let object = other.alloc();
        other.free(other.alloc());
        object
    });
    // A slot on CPU 2 would hold a batch that this destroy does not see.
    assert_eq!(answer, Err(DestroyError::Busy { live: 1 }));
    cache.free(object);
    cache.destroy().expect("nobody uses it");
    valid(&engine, 0);
}

#[test]
fn a_stopped_cpu_serves_its_threads_without_waiting() {
    let engine = engine(2);
    let (victim, busy) = (Cache::new(&engine, "victim", 64), Cache::new(&engine, "bystander", 64));
    use_on(&victim, [0]);
    let stock = busy.bulk(200);
    busy.free_bulk(&stock);
    // It has no slot on CPU 0 yet, and whoever would enable one has to have the CPU's control (I42).
    let fresh = Cache::new(&engine, "without a slot", 64);
    let (bystander, newcomer) = (busy.clone(), fresh.clone());
    let (answer, (objects, object)) = during_destroy(&victim, move || {
        fake::run_on(0);
        let objects = bystander.bulk(200);
        bystander.free_bulk(&objects[..100]);
        (objects, newcomer.alloc())
    });
    answer.expect("nobody uses it");
    assert!(distinct(&objects));
    busy.free_bulk(&objects[100..]);
    fresh.free(object);
    valid(&engine, 0);
}

#[test]
fn a_cpu_comes_up_before_or_after_a_destroy_but_not_in_it() {
    let engine = eager(3);
    engine.cpu_down(2).expect("others stay");
    let cache = Cache::new(&engine, "race two", 64);
    use_on(&cache, [0, 1]);
    let comer = engine.clone();
    let (answer, (thread, was_up)) = during_destroy(&cache, move || {
        let thread = std::thread::spawn({
            let comer = comer.clone();
            move || comer.cpu_up(2)
        });
        std::thread::sleep(Duration::from_millis(20));
        (thread, comer.online_cpus().contains(2))
    });
    answer.expect("nobody uses it");
    assert!(!was_up, "I14: the gate keeps CPUs out of a destroy");
    thread.join().expect("no panic").expect("it was down");
    valid(&engine, 0);
}

thread_local! {
    static ON_BAD_FREE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn on_bad_free(_: usize, error: FreeError) {
    assert_eq!(error, FreeError::NotAnObject);
    ON_BAD_FREE.take().expect("a bad free that the test made")();
}

#[test]
fn a_shrink_beside_a_destroy_does_not_make_it_busy() {
    let config = Config { bad_free: on_bad_free, ..config(Population::OnFirstUse) };
    let engine = engine_of(Machine::with_cpus(2), config);
    let cache = Cache::new(&engine, "shared", 64);
    let objects = cache.bulk(40);
    engine.cpu_down(1).expect("CPU 0 stays");
    // A pointer that is no object is the first in the depot's magazine: where it is refused, the shrink has the
    // magazine's objects in its hands.
    fake::run_on(1);
    cache.free(objects[0] + 8);
    cache.free_bulk(&objects);
    let (send, receive) = mpsc::channel();
    let destroyer = cache.clone();
    ON_BAD_FREE.set(Some(Box::new(move || {
        let thread = std::thread::spawn(move || destroyer.destroy());
        std::thread::sleep(Duration::from_millis(50));
        send.send(thread).expect("the test waits");
    })));
    engine.trim().expect("not in a callback");
    let destroyed = receive.recv().expect("it was started").join().expect("no panic");
    assert_eq!(destroyed, Ok(()), "no user holds an object (I16)");
    valid(&engine, 0);
}

#[test]
fn destroy_ends_while_somebody_looks_at_the_statistics() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "looked at", 64);
    use_on(&cache, [0, 1]);
    // The visitor holds a pin and starts a transition, which waits for the gate: the destroy must not wait for the pin
    // with the gate in its hands (I32).
    let (looker, destroyer) = (cache.clone(), cache.clone());
    ends(move || {
        let thread = std::cell::RefCell::new(None);
        looker.engine.for_each_cache(|stats| {
            if stats.name == "looked at" {
                let destroyer = destroyer.clone();
                *thread.borrow_mut() = Some(std::thread::spawn(move || destroyer.destroy()));
                while looker.engine.descriptor(looker.id).is_some() {
                    std::thread::yield_now();
                }
                looker.engine.cpu_down(1).expect("CPU 0 stays");
            }
        });
        thread.take().expect("it was visited").join().expect("no panic").expect("nobody uses it");
    });
    valid(&engine, 0);
}

#[test]
fn a_descriptor_lives_while_somebody_looks_at_it() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "looked at", 64);
    let mut thread = None;
    engine.for_each_cache(|stats| {
        if stats.name == "looked at" {
            let destroyer = cache.clone();
            thread = Some(std::thread::spawn(move || destroyer.destroy()));
            while engine.descriptor(cache.id).is_some() {
                std::thread::yield_now();
            }
            // Whatever is made now takes other memory and another index (I19).
            let others: Vec<_> = (0..10).map(|n| Cache::new(&engine, &format!("other {n}"), 64)).collect();
            std::thread::sleep(Duration::from_millis(20));
            assert!(!thread.as_ref().expect("it was started").is_finished());
            assert_eq!(stats.name, "looked at");
            assert!(others.iter().all(|other| other.desc().slot() != cache.desc().slot()));
        }
    });
    thread.expect("it was visited").join().expect("no panic").expect("nobody uses it");
    valid(&engine, 0);
}

#[test]
fn a_cache_whose_objects_were_freed_twice_can_still_be_destroyed() {
    let engine = recording(2);
    let cache = Cache::new(&engine, "wronged", 64);
    let objects = cache.bulk(3);
    objects.iter().for_each(|object| cache.free(*object));
    cache.free(objects[1]);
    assert_eq!(cache.destroy(), Ok(()));
    assert_eq!(bad_frees(), [(objects[1], FreeError::DoubleFree)]);
    assert_eq!(engine.page_stats().used, 0);
    assert!(engine.create(&spec("wronged", 64)).is_ok());
    valid(&engine, 0);
}
