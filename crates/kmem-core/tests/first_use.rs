//! General caches come into being at the first use of their class, without waiting for anybody (I2, I13).

mod common;

use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use common::{Cache, E, config, ends, engine, engine_of, listen, spec, valid};
use kmem_core::classes::{CLASSES, size_of_class};
use kmem_core::{AllocError, Config, CreateError, DestroyError, Population};
use kmem_sim::fake::Machine;

fn alloc(engine: &E, size: usize) -> usize {
    engine.alloc_bytes(size, 16).expect("memory").address.as_ptr() as usize
}

fn free(engine: &E, address: usize) {
    // SAFETY: the memory is the test's.
    unsafe { engine.free_bytes(NonNull::new(address as *mut u8).expect("an address")) }
}

fn names(engine: &E) -> Vec<String> {
    let mut names = Vec::new();
    engine.for_each_cache(|stats| names.push(stats.name.to_owned()));
    names
}

#[test]
fn a_general_cache_is_made_at_the_first_use_of_its_class() {
    let engine = engine(1);
    let nothing = engine.meta_used();
    assert_eq!(names(&engine), [""; 0]);
    let addresses = [1000, 10, 1000].map(|size| alloc(&engine, size));
    assert_eq!(names(&engine), ["kmalloc-16", "kmalloc-1024"]);
    // Its name was taken before, and stays so; what looks like one is nobody's.
    assert_eq!(engine.create(&spec("kmalloc-32", 32)), Err(CreateError::NameTaken));
    assert_eq!(engine.create(&spec("kmalloc-16", 16)), Err(CreateError::NameTaken));
    Cache::new(&engine, "kmalloc-33", 33).destroy().expect("unused");
    Cache::new(&engine, "kmalloc-032", 32).destroy().expect("unused");
    addresses.into_iter().for_each(|address| free(&engine, address));
    engine.trim().expect("outside of callbacks");
    assert!(engine.meta_used() > nothing, "it stays");
    assert_eq!(names(&engine), ["kmalloc-16", "kmalloc-1024"]);
    valid(&engine, 0);
}

#[test]
fn an_eager_engine_makes_all_general_caches_with_itself() {
    let engine = engine_of(Machine::with_cpus(2), config(Population::Eager));
    assert_eq!(engine.cache_count(), CLASSES);
    engine.for_each_cache(|stats| assert_eq!(stats.cpus, 2, "{}", stats.name));
}

#[test]
fn an_engine_without_room_for_them_is_not_made() {
    let made = |max_caches| {
        let config = Config { max_caches, ..config(Population::OnFirstUse) };
        kmem_core::Engine::new(kmem_sim::fake::Fake::new(Machine::with_cpus(1)), config).map(drop)
    };
    assert_eq!((made(4), made(CLASSES - 1), made(CLASSES)), (Err(AllocError), Err(AllocError), Ok(())));
}

#[test]
fn a_general_cache_is_not_destroyed() {
    let engine = engine(1);
    let id = engine.general_cache(3).expect("memory").id();
    // SAFETY: refused.
    assert_eq!(unsafe { engine.destroy(id) }, Err(DestroyError::General));
    free(&engine, alloc(&engine, 48));
    assert_eq!(names(&engine), ["kmalloc-48"]);
}

#[test]
fn the_first_use_of_a_class_waits_for_no_transition() {
    let engine = engine(2);
    let heard = Arc::new(Mutex::new(Vec::new()));
    listen(&engine, {
        let (engine, heard) = (Arc::downgrade(&engine), heard.clone());
        move |event, _| {
            // Inside of a transition, and another thread beside it: each event with a class that nobody used yet.
            let engine = engine.upgrade().expect("the engine that calls");
            let size = 16 * (heard.lock().expect("no panic").len() + 1);
            free(&engine, alloc(&engine, size));
            std::thread::spawn(move || free(&engine, alloc(&engine, 100 * size))).join().expect("no panic");
            heard.lock().expect("no panic").push(event);
            Ok(())
        }
    });
    let engine = ends(move || {
        engine.cpu_down(1).expect("CPU 0 stays");
        engine.cpu_up(1).expect("it was down");
        engine
    });
    assert_eq!(heard.lock().expect("no panic").len(), 4);
    assert_eq!(engine.cache_count(), 8);
    valid(&engine, 0);
}

#[test]
fn threads_that_use_a_class_first_make_one_cache() {
    for round in 0..20 {
        let engine = engine(2);
        let start = Arc::new(std::sync::Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (engine, start) = (engine.clone(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    (1..=CLASSES as u8).for_each(|class| free(&engine, alloc(&engine, size_of_class(class))));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(engine.cache_count(), CLASSES, "round {round}");
        valid(&engine, 0);
    }
}

/// The result of the first use of a class while `fail` decides which calls for memory fail; the next use succeeds.
fn first_use_while(fail: impl Fn(&E)) -> Result<(), AllocError> {
    let engine = engine(1);
    fail(&engine);
    let result = engine.alloc_bytes(1000, 16);
    engine.platform().fail_never();
    let result = result.map(|fresh| free(&engine, fresh.address.as_ptr() as usize));
    free(&engine, alloc(&engine, 1000));
    assert_eq!(engine.cache_count(), 1);
    valid(&engine, 0);
    result
}

#[test]
fn a_general_cache_that_cannot_be_made_is_made_by_the_next() {
    let from = |nth| first_use_while(|engine| engine.platform().fail_from(nth));
    assert_eq!(from(0), Err(AllocError), "its descriptor needs memory");
    assert_eq!(from(1), Err(AllocError), "so does its slab");
    assert_eq!(from(9), Ok(()));
}

#[test]
fn what_is_given_up_when_memory_is_out_serves_a_new_general_cache() {
    for nth in 0..9 {
        assert_eq!(first_use_while(|engine| engine.platform().fail_nth(nth)), Ok(()), "call {nth}");
    }
}
