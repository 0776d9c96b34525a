//! Before an allocation fails, what caches keep for later is given up. This runs inside any allocation: it waits for
//! nobody, calls nobody's code, and takes nothing where that cannot help.

mod common;

use common::{Cache, ROOM, config, ends, engine, engine_of, listen, spec, valid, with_room};
use kmem_core::cpu::Event;
use kmem_core::{AllocError, CreateError, Population};
use kmem_sim::fake;
use std::sync::mpsc;

#[test]
fn what_other_caches_keep_for_later_serves_before_an_allocation_fails() {
    let engine = engine_of(with_room(2, 40), config(Population::OnFirstUse));
    for (large, round) in [(false, 0), (true, 1), (false, 2)] {
        fake::run_on(0);
        let hoarder = Cache::new(&engine, "hoarder", 4000);
        let keep = hoarder.alloc();
        let mut all = vec![];
        while let Ok(object) = hoarder.try_alloc() {
            all.push(object);
        }
        // Twenty-four to a slot, the rest in the depot and on empty slabs, all of it free.
        hoarder.free_bulk(&all);
        fake::run_on(round % 2);
        if large {
            let run = engine.alloc_large(25 * ROOM, 16).expect("slabs that nobody uses go back").address;
            // SAFETY: the run is ours.
            unsafe { engine.free_bytes(run) };
        } else {
            let other = Cache::new(&engine, "needy", 60_000);
            let objects = other.bulk(20);
            other.free_bulk(&objects);
            other.destroy().expect("nobody uses it");
        }
        valid(&engine, 1);
        hoarder.free(keep);
        hoarder.destroy().expect("nobody uses it");
        assert_eq!(engine.page_stats().used, 0);
    }
}

#[test]
fn what_can_never_be_served_takes_nothing_from_others() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "undisturbed", 64);
    cache.free_bulk(&cache.bulk(500));
    let (before, fences) = (cache.figures(), engine.platform().fence_count());
    for (size, align) in [(usize::MAX, 16), (1 << 46, 16), (1, 1 << 62)] {
        assert_eq!(engine.alloc_bytes(size, align), Err(AllocError));
    }
    assert_eq!((cache.figures(), engine.platform().fence_count()), (before, fences));
}

#[test]
fn what_is_given_up_outlives_the_caches_that_gave_it_up() {
    let engine = engine_of(with_room(2, 60), config(Population::OnFirstUse));
    let caches = [("small", 8), ("large", 4096)].map(|(name, size)| Cache::new(&engine, name, size));
    caches.iter().for_each(|cache| cache.free_bulk(&cache.bulk(10)));
    // One room is left besides the two slabs.
    let rest = engine.alloc_large(57 * ROOM, 16).expect("memory").address;
    // While the second cache is drained, another thread destroys the first, and other caches take the place of its
    // descriptor.
    let (first, platform) = (caches[0].clone(), engine.clone());
    let meanwhile = move || {
        let work = move || {
            first.destroy().expect("nobody uses it");
            (0..4).for_each(|n| drop(Cache::new(&first.engine, &format!("in its place {n}"), 2000)));
        };
        std::thread::spawn(work).join().expect("no panic");
    };
    engine.platform().at_next_fence(move || platform.platform().at_next_fence(meanwhile));
    let before = engine.meta_used();
    let run = engine.alloc_large(2 * ROOM, 16).expect("the slabs are given up").address;
    // SAFETY: the runs are ours.
    [rest, run].into_iter().for_each(|run| unsafe { engine.free_bytes(run) });
    assert_eq!(engine.cache_count(), 5);
    (0..4)
        .for_each(|n| assert_eq!(engine.create(&spec(&format!("in its place {n}"), 64)), Err(CreateError::NameTaken)));
    caches[1].destroy().expect("nobody uses it");
    valid(&engine, 0);
    // The descriptors of its slabs went back as what they were.
    let descriptor = (engine.meta_used() - engine_of(with_room(2, 60), config(Population::OnFirstUse)).meta_used()) / 4;
    assert!(descriptor > 200 && engine.meta_used() < before, "{descriptor} bytes for a cache");
    let fresh = engine.meta_used();
    Cache::new(&engine, "one more", 64);
    assert_eq!(engine.meta_used() - fresh, descriptor);
}

#[test]
fn a_callback_without_memory_gets_an_error() {
    let engine = engine_of(with_room(2, 20), config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "inside", 4000);
    let inside = cache.clone();
    listen(&engine, move |_, _| {
        let mut held = Vec::new();
        while let Ok(object) = inside.try_alloc() {
            held.push(object);
        }
        assert!(held.len() > 300 && inside.engine.alloc_bytes(1 << 20, 16).is_err());
        inside.free_bulk(&held);
        Ok(())
    });
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.cpu_up(1).expect("it is down");
    valid(&engine, 0);
}

#[test]
fn without_memory_nobody_waits_for_a_transition() {
    let engine = engine_of(with_room(2, 20), config(Population::OnFirstUse));
    // Something that could be given up, if nobody had to be waited for.
    let _cache = Cache::new(&engine, "any", 64);
    let (at, wait) = (mpsc::channel(), mpsc::channel::<()>());
    let wait_for = std::sync::Mutex::new(wait.1);
    listen(&engine, move |event, _| {
        if event == Event::DownPrepare {
            at.0.send(()).expect("the test waits");
            wait_for.lock().expect("no panic").recv().expect("the test goes on");
        }
        Ok(())
    });
    let driver = engine.clone();
    let transition = std::thread::spawn(move || driver.cpu_down(1));
    at.1.recv().expect("it is in the callback");
    let user = engine.clone();
    ends(move || {
        let run = user.alloc_large(15 * ROOM, 16).expect("memory").address;
        assert!(user.alloc_large(15 * ROOM, 16).is_err());
        // SAFETY: the run is ours.
        unsafe { user.free_bytes(run) };
    });
    wait.0.send(()).expect("the callback waits");
    transition.join().expect("no panic").expect("CPU 0 stays");
    valid(&engine, 0);
}

#[test]
fn memory_that_was_given_up_comes_back() {
    let engine = engine_of(with_room(1, 200), config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "back", 64);
    for round in 0..5 {
        let objects = cache.bulk(5000);
        objects.iter().for_each(|object| common::fill(*object, 64, round));
        let large = engine.alloc_large(40 * ROOM, 16).expect("memory").address;
        assert!(engine.alloc_large(190 * ROOM, 16).is_err(), "this gives up all that is free");
        assert!(objects.iter().all(|object| common::is_filled(*object, 64, round)));
        cache.free_bulk(&objects);
        // SAFETY: the run is ours.
        unsafe { engine.free_bytes(large) };
        let all = engine.alloc_large(200 * ROOM, 16).expect("all in one piece").address;
        // SAFETY: as above.
        unsafe { engine.free_bytes(all) };
        valid(&engine, 0);
    }
}
