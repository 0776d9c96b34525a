//! Objects that stay constructed between uses: once each, kept, ended once; and what constructors and destructors may
//! do (I31).

mod common;

use common::counted::{Counted, touch};
use common::{
    Cache, E, Footprint, config, distinct, eager, ends, engine, engine_of, holds_no_lock, listen, spec, valid,
    with_room,
};
use kmem_core::cpu::CpuSet;
use kmem_core::{AllocError, Population};
use kmem_sim::fake::{self, Machine};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn an_object_is_constructed_once_and_kept_between_uses() {
    for engine in [engine(2), eager(2)] {
        let counted = Counted::new();
        let cache = counted.cache(&engine, "kept", 64);
        let mut most = 0;
        for round in 0..20 {
            fake::run_on(round % 2);
            let objects = cache.bulk(300);
            objects.iter().for_each(|object| most = most.max(touch(*object)));
            cache.free_bulk(&objects);
        }
        assert_eq!(counted.destructed.load(Ordering::Relaxed), 0);
        assert_eq!(counted.now(), counted.constructed.load(Ordering::Relaxed));
        assert!(most > 5, "objects come back as they were left");
        let total = cache.figures().total;
        assert!(counted.now() <= total);
        cache.destroy().expect("nobody uses it");
        assert_eq!(counted.now(), 0);
        valid(&engine, 0);
    }
}

#[test]
fn objects_are_destructed_once_when_their_slabs_go_back() {
    for engine in [engine(3), eager(3)] {
        let counted = Counted::new();
        let cache = counted.cache(&engine, "ended", 500);
        let mut objects = cache.bulk(2000);
        let held = objects.split_off(1990);
        fake::run_on(1);
        cache.free_bulk(&objects);
        cache.shrink();
        // Slabs with a held object stay, and what is constructed on them.
        assert!(counted.now() >= 10 && counted.now() < 1990);
        assert_eq!(
            counted.constructed.load(Ordering::Relaxed) - counted.destructed.load(Ordering::Relaxed),
            counted.now()
        );
        held.iter().for_each(|object| _ = touch(*object));
        engine.cpu_down(1).expect("others stay");
        cache.free_bulk(&held);
        engine.trim().expect("not in a callback");
        assert_eq!(counted.now(), 0);
        // And again from the beginning.
        cache.free(cache.alloc());
        assert!(counted.now() > 0);
        cache.destroy().expect("nobody uses it");
        assert_eq!(counted.now(), 0);
    }
}

#[test]
fn a_panic_in_the_constructor_loses_nothing_and_is_tried_again() {
    for (bulk, last) in [(0, 65), (150, 150)] {
        for n in 0..last {
            let engine = engine(1);
            let counted = Counted::new();
            let cache = counted.cache(&engine, "panics", 64);
            counted.on_construct(Counted::panic_at(n));
            let panicked =
                common::panics(
                    || {
                        if bulk == 0 { cache.free(cache.alloc()) } else { cache.free_bulk(&cache.bulk(bulk)) }
                    },
                );
            assert_eq!(counted.now(), counted.constructed.load(Ordering::Relaxed));
            if panicked {
                assert_eq!(counted.now(), n, "those before it are constructed and stay so");
            }
            counted.on_construct(|_| ());
            valid(&engine, 0);
            // The books notice if one is constructed twice, or handed out raw.
            let objects = cache.bulk(200);
            assert!(distinct(&objects));
            objects.iter().for_each(|object| _ = touch(*object));
            cache.free_bulk(&objects);
            cache.destroy().expect("nobody uses it");
            assert_eq!(counted.now(), 0);
            valid(&engine, 0);
        }
    }
}

#[test]
fn a_panic_in_the_destructor_loses_nothing() {
    for n in [0, 1, 7, 100, 1023, 1024, 1500] {
        let engine = engine(1);
        let counted = Counted::new();
        let before = Footprint::of(&engine);
        let cache = counted.cache(&engine, "panics", 64);
        let mut objects = cache.bulk(3000);
        cache.free_bulk(&objects);
        counted.on_destruct(Counted::panic_at(n));
        assert!(common::panics(|| _ = cache.shrink()));
        assert_eq!(counted.now(), 0, "the others are destructed all the same");
        valid(&engine, 0);
        objects = cache.bulk(3000);
        objects.iter().for_each(|object| _ = touch(*object));
        cache.free_bulk(&objects);
        counted.on_destruct(Counted::panic_at(n));
        assert!(common::panics(|| _ = cache.destroy()));
        assert_eq!(counted.now(), 0);
        assert!(engine.descriptor(cache.id).is_none(), "it is destroyed all the same");
        assert_eq!(engine.page_stats().used, 0);
        assert_eq!(
            (Footprint::of(&engine).caches, Footprint::of(&engine).meta_used),
            (before.caches, before.meta_used)
        );
        engine.create(&spec("panics", 64)).expect("its name is free");
        valid(&engine, 0);
    }
}

#[test]
fn a_panic_in_the_destructor_while_an_object_is_freed_loses_nothing() {
    let engine = engine(1);
    let counted = Counted::new();
    // Slabs of one object, more than are kept when they become empty.
    let cache = counted.cache(&engine, "large", 65_536);
    let objects = cache.bulk(60);
    counted.on_destruct(Counted::panic_at(3));
    let mut panicked = 0;
    for object in objects {
        panicked += usize::from(common::panics(|| cache.free(object)));
    }
    assert_eq!(panicked, 1);
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}

/// All that user code may do where it holds no lock.
fn do_everything(engine: &E, counter: &AtomicUsize) {
    assert!(holds_no_lock(engine), "I31");
    let n = counter.fetch_add(1, Ordering::Relaxed);
    let other = Cache::new(engine, &format!("made inside {n}"), 48);
    let objects = other.bulk(100);
    engine.cpu_down(1).expect("CPU 0 stays");
    other.free_bulk(&objects);
    engine.cpu_up(1).expect("it is down");
    other.shrink();
    other.destroy().expect("nobody uses it");
    engine.for_each_cache(|stats| assert!(stats.live <= stats.total));
    engine.trim().expect("not in a callback");
    let memory = engine.alloc_bytes(200_000, 64).expect("memory").address;
    // SAFETY: the memory is ours.
    unsafe { engine.free_bytes(memory) };
}

#[test]
fn constructors_may_do_anything() {
    for engine in [engine(2), eager(2)] {
        let counted = Counted::new();
        let cache = counted.cache(&engine, "busy constructor", 64);
        let counter = AtomicUsize::new(0);
        let inside = Arc::downgrade(&engine);
        counted.on_construct(move |_| do_everything(&inside.upgrade().expect("the engine that calls"), &counter));
        let user = cache.clone();
        ends(move || {
            fake::run_on(1);
            let objects = user.bulk(150);
            objects.iter().for_each(|object| _ = touch(*object));
            user.free_bulk(&objects);
        });
        cache.destroy().expect("nobody uses it");
        assert_eq!(counted.now(), 0);
        valid(&engine, 0);
    }
}

#[test]
fn destructors_may_do_anything() {
    for engine in [engine(2), eager(2)] {
        let counted = Counted::new();
        let cache = counted.cache(&engine, "busy destructor", 4000);
        let counter = AtomicUsize::new(0);
        let inside = Arc::downgrade(&engine);
        counted.on_destruct(move |_| do_everything(&inside.upgrade().expect("the engine that calls"), &counter));
        let user = cache.clone();
        ends(move || {
            // By frees, a shrink, a CPU that goes, a trim, and the destroy.
            user.free_bulk(&user.bulk(150));
            user.shrink();
            user.free_bulk(&user.bulk(150));
            user.engine.cpu_down(1).expect("CPU 0 stays");
            user.engine.cpu_up(1).expect("it is down");
            user.engine.trim().expect("not in a callback");
            user.free_bulk(&user.bulk(150));
            user.destroy().expect("nobody uses it");
        });
        assert_eq!(counted.now(), 0);
        valid(&engine, 0);
    }
}

#[test]
fn a_constructor_may_use_its_own_cache() {
    let engine = engine(1);
    let counted = Counted::new();
    let cache = counted.cache(&engine, "recursive", 64);
    let inner = cache.clone();
    let mut depth = 0;
    let (send, receive) = std::sync::mpsc::channel();
    // The hook is out of its place while it runs, so the inner alloc constructs without it.
    counted.on_construct(move |_| {
        depth += 1;
        if depth < 5 {
            send.send(inner.alloc()).expect("the test waits");
        }
    });
    let mut objects = vec![cache.alloc()];
    objects.extend(receive.try_iter());
    assert!(distinct(&objects));
    objects.iter().for_each(|object| _ = touch(*object));
    valid(&engine, objects.len());
    cache.free_bulk(&objects);
    counted.on_construct(|_| ());
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}

#[test]
fn constructors_run_in_hotplug_callbacks_too() {
    let engine = engine(2);
    let counted = Counted::new();
    let cache = counted.cache(&engine, "in callback", 64);
    let inside = cache.clone();
    listen(&engine, move |_, _| {
        let objects = inside.bulk(300);
        objects.iter().for_each(|object| _ = touch(*object));
        inside.free_bulk(&objects);
        Ok(())
    });
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.cpu_up(1).expect("it is down");
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}

/// Two caches; the first destructor of either that runs destroys the other, and a new cache takes the place of its
/// descriptor. The slabs of both are on their way back in the same call: each must be ended by the destructor of its
/// own cache (I19).
fn destroyed_by_a_destructor(engine: &E, size: usize, prepare: impl Fn(&Cache), give_back: impl Fn(&E)) {
    let books = [Counted::new(), Counted::new()];
    let caches = [0, 1].map(|n| books[n].cache(engine, &format!("cache {n}"), size));
    caches.iter().for_each(&prepare);
    let destroyed = Arc::new(AtomicUsize::new(0));
    for n in 0..2 {
        let (other, destroyed) = (caches[1 - n].clone(), destroyed.clone());
        books[n].on_destruct(move |_| {
            if destroyed.fetch_add(1, Ordering::Relaxed) == 0 {
                other.destroy().expect("nobody uses it");
                let wrong = Counted::new();
                wrong.cache(&other.engine, "in its place", size);
            }
        });
    }
    give_back(engine);
    assert!(destroyed.load(Ordering::Relaxed) > 0, "a destructor ran");
    caches.iter().for_each(|cache| _ = cache.destroy());
    assert_eq!(books.map(Counted::now), [0, 0]);
    valid(engine, 0);
}

#[test]
fn a_trim_outlives_the_caches_that_it_trims() {
    let engine = engine(1);
    destroyed_by_a_destructor(
        &engine,
        64,
        |cache| cache.free_bulk(&cache.bulk(2000)),
        |engine| _ = engine.trim().expect("not in a callback"),
    );
}

#[test]
fn a_cpu_that_goes_outlives_the_caches_that_it_leaves() {
    // A hundred granules an object: what the depot does not take goes to the slabs, and from there back at once.
    let engine = engine_of(Machine { granules: 16_384, ..Machine::with_cpus(2) }, config(Population::OnFirstUse));
    destroyed_by_a_destructor(
        &engine,
        65_536,
        |cache| {
            fake::run_on(1);
            let held = cache.bulk(8);
            fake::run_on(0);
            cache.free_bulk(&cache.bulk(60));
            fake::run_on(1);
            cache.free_bulk(&held);
            fake::run_on(0);
        },
        |engine| engine.cpu_down(1).expect("CPU 0 stays"),
    );
}

#[test]
fn a_destructor_in_a_shrink_may_start_a_transition_while_the_cache_is_destroyed() {
    let engine = engine(2);
    let counted = Counted::new();
    let cache = counted.cache(&engine, "both", 64);
    cache.free_bulk(&cache.bulk(100));
    let (shrinker, destroyer) = (cache.clone(), cache.clone());
    let mut thread = None;
    counted.on_destruct(move |_| {
        if thread.is_none() {
            let cache = destroyer.clone();
            thread = Some(std::thread::spawn(move || cache.destroy()));
            // It has seen that nobody uses the cache, and waits for the shrink to let go of it.
            while destroyer.engine.descriptor(destroyer.id).is_some() {
                std::thread::yield_now();
            }
            destroyer.engine.cpu_down(1).expect("CPU 0 stays");
        }
    });
    ends(move || shrinker.shrink());
    while counted.now() > 0 || engine.cache_count() > 0 {
        std::thread::yield_now();
    }
    valid(&engine, 0);
}

/// It is somebody's code, so no thread runs it that only looks after memory, or has none.
#[test]
fn for_want_of_memory_no_destructor_runs() {
    let engine = engine_of(with_room(2, 60), config(Population::OnFirstUse));
    let counted = Counted::new();
    let cache = counted.cache(&engine, "somebody's", 64);
    for cpu in [1, 0] {
        fake::run_on(cpu);
        cache.free_bulk(&cache.bulk(1000));
    }
    let before = cache.figures();
    assert!(before.in_slots > 0 && before.in_depot > 0, "{before:?}");
    engine.reap_depots();
    assert_eq!(cache.figures(), before);
    engine.relieve(&CpuSet::new());
    assert_eq!(cache.figures(), before);
    assert_eq!(engine.alloc_bytes(60 << 16, 16), Err(AllocError), "all that may be given up would not do");
    assert_eq!(cache.figures(), before);
    assert_eq!(counted.destructed.load(Ordering::Relaxed), 0);
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}
