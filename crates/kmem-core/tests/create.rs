//! Creating caches: every bad input is refused and leaves nothing, names are unique, any size and alignment holds.

mod common;

use common::{Cache, Footprint, config, eager, ends, engine, engine_of, listen, spec, valid};
use kmem_core::cache::{CacheSpec, NAME_MAX, ObjectOps};
use kmem_core::classes::CLASSES;
use kmem_core::cpu::Event;
use kmem_core::slab::{MAX_ALIGN, MAX_SIZE};
use kmem_core::{Config, CreateError, Population};
use kmem_sim::fake::{self, Machine};
use std::sync::{Arc, Barrier, Mutex};

#[track_caller]
fn refused(engine: &common::E, spec: &CacheSpec<'_>, error: CreateError) {
    let before = Footprint::of(engine);
    assert_eq!(engine.create(spec), Err(error));
    assert_eq!(Footprint::of(engine), before, "{error:?} left something (I12)");
    assert!(!error.to_string().is_empty());
}

#[test]
fn a_bad_size_is_refused() {
    for engine in [engine(2), eager(2)] {
        refused(&engine, &spec("none", 0), CreateError::ZeroSize);
        for size in [MAX_SIZE + 1, usize::MAX / 2, usize::MAX] {
            refused(&engine, &spec("huge", size), CreateError::SizeTooLarge { size, max: MAX_SIZE });
        }
    }
}

#[test]
fn a_bad_alignment_is_refused() {
    let engine = engine(2);
    for align in [0, 3, 24, MAX_ALIGN - 1, usize::MAX] {
        refused(&engine, &CacheSpec { align, ..spec("odd", 64) }, CreateError::AlignNotPowerOfTwo { align });
    }
    for align in [MAX_ALIGN * 2, 1 << 63] {
        refused(
            &engine,
            &CacheSpec { align, ..spec("wide", 64) },
            CreateError::AlignTooLarge { align, max: MAX_ALIGN },
        );
    }
}

#[test]
fn a_bad_name_is_refused() {
    let engine = engine(2);
    refused(&engine, &spec("", 64), CreateError::NameEmpty);
    let long = "x".repeat(NAME_MAX + 1);
    refused(&engine, &spec(&long, 64), CreateError::NameTooLong { len: NAME_MAX + 1, max: NAME_MAX });
    // Bytes count, not characters.
    let wide = "ä".repeat(NAME_MAX / 2 + 1);
    refused(&engine, &spec(&wide, 64), CreateError::NameTooLong { len: NAME_MAX + 1, max: NAME_MAX });
    let longest = Cache::new(&engine, &long[1..], 64);
    assert!(engine.with_stats(longest.id, |stats| stats.name == &long[1..]).expect("it lives"));
}

#[test]
fn a_name_is_taken_until_its_cache_is_gone() {
    let engine = engine(2);
    let first = Cache::new(&engine, "one", 64);
    refused(&engine, &spec("one", 128), CreateError::NameTaken);
    refused(&engine, &spec("kmalloc-64", 64), CreateError::NameTaken);
    let object = first.alloc();
    first.destroy().expect_err("busy");
    refused(&engine, &spec("one", 128), CreateError::NameTaken);
    first.free(object);
    first.destroy().expect("nobody uses it");
    Cache::new(&engine, "one", 128).destroy().expect("nobody uses it");
}

#[test]
fn too_many_caches_are_refused_and_the_next_destroy_makes_room() {
    let engine = engine_of(Machine::with_cpus(1), Config { max_caches: CLASSES + 3, ..config(Population::OnFirstUse) });
    let caches: Vec<_> = (0..3).map(|n| Cache::new(&engine, &format!("cache {n}"), 64)).collect();
    refused(&engine, &spec("one more", 64), CreateError::TooManyCaches { max: CLASSES + 3 });
    caches[1].destroy().expect("unused");
    let last = Cache::new(&engine, "one more", 64);
    last.free(last.alloc());
    refused(&engine, &spec("and another", 64), CreateError::TooManyCaches { max: CLASSES + 3 });
    valid(&engine, 0);
}

#[test]
fn inside_a_hotplug_callback_nothing_is_created() {
    let engine = engine(2);
    let heard = Arc::new(Mutex::new(Vec::new()));
    listen(&engine, {
        let (engine, heard) = (Arc::downgrade(&engine), heard.clone());
        move |event, _| {
            let engine = engine.upgrade().expect("the engine that calls");
            let before = Footprint::of(&engine);
            let answer = engine.create(&spec("inside", 64));
            heard.lock().expect("no panic").push((event, answer, Footprint::of(&engine) == before));
            Ok(())
        }
    });
    let engine = ends(move || {
        engine.cpu_down(1).expect("CPU 0 stays");
        engine.cpu_up(1).expect("it was down");
        engine
    });
    let events = [Event::DownPrepare, Event::Dead, Event::UpPrepare, Event::Online];
    assert_eq!(*heard.lock().expect("no panic"), events.map(|event| (event, Err(CreateError::InsideCallback), true)));
    Cache::new(&engine, "inside", 64);
}

#[test]
fn of_two_creates_of_one_name_one_wins() {
    let engine = engine(2);
    for round in 0..200 {
        let barrier = Arc::new(Barrier::new(2));
        let create = || {
            let (engine, barrier) = (engine.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                engine.create(&spec("contested", 64 + round))
            })
        };
        let answers = [create(), create()].map(|thread| thread.join().expect("no panic"));
        let won: Vec<_> = answers.iter().filter_map(|answer| answer.ok()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.contains(&Err(CreateError::NameTaken)));
        // The loser gave the gate back (I13).
        engine.cpu_down(1).expect("CPU 0 stays");
        engine.cpu_up(1).expect("it was down");
        // SAFETY: nobody uses it.
        unsafe { engine.destroy(won[0]) }.expect("unused");
    }
}

#[test]
fn objects_of_any_size_and_alignment_are_aligned_apart_and_writable() {
    let engine = engine_of(Machine { granules: 4096, ..Machine::with_cpus(1) }, config(Population::OnFirstUse));
    for size in
        [1, 7, 8, 9, 24, 63, 64, 65, 255, 257, 1000, 4096, 5000, 40_000, 65_536, 70_001, 200_000, 1 << 20, MAX_SIZE]
    {
        for align in [1, 8, 16, 64, 4096, MAX_ALIGN] {
            let cache = Cache::of(&engine, &CacheSpec { name: "any", size, align, ops: None }).expect("a cache");
            let objects = cache.bulk(if size > 100_000 { 3 } else { 40 });
            for (number, object) in objects.iter().enumerate() {
                assert!(object.is_multiple_of(align.max(8)));
                common::fill(*object, size, number as u8);
            }
            for (number, object) in objects.iter().enumerate() {
                assert!(common::is_filled(*object, size, number as u8), "objects of {size} bytes overlap");
            }
            cache.free_bulk(&objects);
            cache.destroy().expect("nobody uses it");
        }
    }
    valid(&engine, 0);
    assert_eq!(engine.page_stats().used, 0);
}

#[test]
fn creating_costs_the_same_on_one_cpu_and_on_many() {
    let calls = |cpus: usize| {
        let engine = engine_of(Machine::with_cpus(cpus), config(Population::OnFirstUse));
        let (calls, mapped, meta) = (engine.platform().calls(), engine.platform().mapped(), engine.meta_used());
        (0..50).for_each(|n| drop(Cache::new(&engine, &format!("cache {n}"), 64)));
        (engine.platform().calls() - calls, engine.platform().mapped() - mapped, engine.meta_used() - meta)
    };
    assert_eq!(calls(1), calls(1024));
}

#[test]
fn eager_caches_have_a_slot_on_every_online_cpu_and_only_there() {
    let machine = Machine { possible: 8, online: [0, 3, 5].into_iter().collect(), ..Machine::with_cpus(8) };
    let engine = engine_of(machine, config(Population::Eager));
    let cache = Cache::new(&engine, "eager", 64);
    assert_eq!(cache.figures().cpus, 3, "I2");
    engine.cpu_up(7).expect("it is offline");
    assert_eq!(cache.figures().cpus, 4, "I2");
    assert_eq!(Cache::new(&engine, "later", 64).figures().cpus, 4, "I2");
    engine.cpu_down(3).expect("others stay");
    assert_eq!(cache.figures().cpus, 3, "I8");
    valid(&engine, 0);
}

#[test]
fn a_cache_with_a_constructor_that_is_refused_constructs_nothing() {
    unsafe fn never(_: *mut (), _: *mut u8) {
        panic!("nothing is constructed or destructed");
    }
    let engine = eager(2);
    // SAFETY: neither touches anything.
    let ops = Some(unsafe { ObjectOps::new(std::ptr::null_mut(), never, Some(never)) });
    refused(&engine, &CacheSpec { ops, ..spec("none", 0) }, CreateError::ZeroSize);
    let unused = Cache::of(&engine, &CacheSpec { ops, ..spec("unused", 64) }).expect("a cache");
    unused.destroy().expect("unused");
}

/// Areas and the table of the registry begin small, and become wider with the caches there are: what is cached stays,
/// on all CPUs, and without memory a create fails and leaves everything as it was.
#[test]
fn the_registry_grows_only_where_it_has_no_room() {
    let config = Config { max_caches: 4096, ..config(Population::OnFirstUse) };
    let engine = engine_of(Machine::with_cpus(1), config);
    let mapped = || Footprint::of(&engine).mapped_apart;
    let before = mapped();
    let first = Cache::new(&engine, "first", 64);
    let caches: Vec<_> = (0..10).map(|n| Cache::new(&engine, &format!("cache-{n}"), 64)).collect();
    assert_eq!(mapped(), before, "there is room for these");
    first.destroy().expect("nobody uses it");
    let again = Cache::new(&engine, "again", 64);
    assert_eq!(mapped(), before, "a place that was freed serves again");
    caches.into_iter().chain([again]).for_each(|cache| cache.destroy().expect("nobody uses it"));
}

#[test]
fn areas_become_wider_with_the_caches_there_are() {
    const CACHES: usize = 3000;
    for fails in [None, Some(0), Some(1)] {
        let engine = engine_of(Machine::with_cpus(3), Config { max_caches: 4000, ..config(Population::OnFirstUse) });
        let first = Cache::new(&engine, "first", 64);
        for cpu in [1, 0] {
            fake::run_on(cpu);
            first.fill_slot();
        }
        let cached = (first.figures().in_slots, first.figures().in_depot);
        let mut failures = 0;
        let caches: Vec<_> = (0..CACHES)
            .map(|n| {
                let name = format!("cache {n}");
                if let Some(nth) = fails {
                    engine.platform().fail_nth(nth);
                }
                let created = Cache::of(&engine, &spec(&name, 64));
                engine.platform().fail_never();
                created.unwrap_or_else(|error| {
                    assert_eq!(error, CreateError::NoMemory);
                    failures += 1;
                    Cache::of(&engine, &spec(&name, 64)).expect("memory is back, and the name is free")
                })
            })
            .collect();
        assert_eq!(failures > 0, fails.is_some());
        assert_eq!((first.figures().in_slots, first.figures().in_depot), cached);
        valid(&engine, 0);
        // A CPU whose area is made now, and the others, serve the last cache as well as the first.
        let last = caches.last().expect("some");
        for cpu in [0, 1, 2] {
            fake::run_on(cpu);
            last.free_bulk(&last.bulk(200));
            first.fill_slot();
        }
        assert_eq!(last.figures().cpus, 3);
        valid(&engine, 0);
        caches.iter().for_each(|cache| cache.destroy().expect("nobody uses it"));
        first.destroy().expect("nobody uses it");
        assert_eq!(engine.cache_count(), 0);
    }
}
