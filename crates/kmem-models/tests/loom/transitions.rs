//! Caches that come and go while CPUs come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmem_core::cpu::{Event, Refused};
use kmem_core::{DestroyError, HotplugError, Population, TuneError};

use crate::checked::cache::{EIGHT, nothing_left, valid};
use crate::checked::platform::migrate;
use crate::checked::{Cache, E, Machine, engine, general_engine, join, listen, on};
use crate::explore::explore;
use crate::slots::about_to_grow;

const BOTH: [Population; 2] = [Population::OnFirstUse, Population::Eager];

fn up(engine: &E, cpu: usize) -> impl FnOnce() + Send + 'static + use<> {
    let engine = engine.clone();
    move || engine.cpu_up(cpu).expect("a CPU that comes up")
}

fn down(engine: &E, cpu: usize) -> impl FnOnce() + Send + 'static + use<> {
    let engine = engine.clone();
    move || engine.cpu_down(cpu).expect("a CPU that goes down")
}

/// Leaves objects of `cache` in the slot of `cpu`, and goes back to CPU 0.
fn fill_slot_of(cache: &Cache, cpu: usize) {
    migrate(cpu);
    let object = cache.alloc();
    cache.free(object);
    migrate(0);
}

/// The slot of `cache` on `cpu` holds `capacity` objects when it is full.
fn holds(cache: &Cache, cpu: usize, capacity: usize) {
    migrate(cpu);
    let in_slots = || cache.engine.with_stats(cache.id, |stats| stats.in_slots).expect("a cache");
    let mut objects = cache.alloc_bulk(capacity + 1);
    // Until a miss says that the slot was empty: then only others hold something.
    let others = loop {
        let before = in_slots();
        objects.push(cache.alloc());
        if in_slots() >= before {
            break before;
        }
    };
    let held = |object| {
        cache.free(object);
        in_slots() - others
    };
    assert_eq!(objects.into_iter().map(held).max(), Some(capacity), "a slot of another capacity");
    migrate(0);
}

/// Race 1: the cache is listed between the CPU's leaving the online ones and its burial.
#[test]
fn create_against_cpu_down() {
    for population in BOTH {
        explore("create against cpu_down", Some(3), move || {
            let engine = engine(Machine::new(2, &[0, 1]), population);
            let leaver = on(&engine, 0, down(&engine, 1));
            migrate(1);
            let cache = Cache::new(&engine, "c", EIGHT);
            let object = cache.alloc();
            cache.free(object);
            join(leaver);
            assert!(!engine.online_cpus().contains(1));
            cache.end();
        });
    }
}

/// Takes and gives back an object of a class that nobody used before.
fn use_a_class(engine: &E) {
    let object = engine.alloc_bytes(16, 16).expect("memory").address;
    // SAFETY: the memory is the model's.
    unsafe { engine.free_bytes(object) };
}

/// On CPU 0 with, where wanted, a thread on CPU 1 and the going of CPU 1 beside it.
fn first_uses(name: &'static str, preemptions: usize, other: bool, leaves: bool) {
    explore(name, Some(preemptions), move || {
        let engine = general_engine(Machine::new(2, &[0, 1]));
        let leaver = leaves.then(|| on(&engine, 0, down(&engine, 1)));
        let other = other.then(|| {
            let used = engine.clone();
            on(&engine, 1, move || use_a_class(&used))
        });
        use_a_class(&engine);
        leaver.into_iter().for_each(join);
        other.into_iter().for_each(join);
        assert_eq!(engine.cache_count(), 1);
        valid(&engine, 0);
    });
}

/// The same without the gate: a general cache is listed at the first use of its class, whatever the CPU is doing; and
/// two threads make it at once (I2, I13). Each by itself with more preemptions than there can be for both together.
#[test]
fn first_uses_of_a_class_against_cpu_down() {
    first_uses("first uses of a class against cpu_down", 1, true, true);
    first_uses("two first uses of a class", 2, true, false);
    first_uses("the first use of a class against cpu_down", 4, false, true);
}

/// Race 2: the CPU comes up between the cache's beginning to die and the end of its drain.
#[test]
fn destroy_against_cpu_up() {
    for population in BOTH {
        explore("destroy against cpu_up", Some(4), move || {
            let engine = engine(Machine::new(2, &[0]), population);
            let cache = Cache::new(&engine, "c", EIGHT);
            fill_slot_of(&cache, 0);
            let comer = on(&engine, 1, up(&engine, 1));
            cache.destroy().expect("nobody holds an object");
            join(comer);
            valid(&engine, 0);
            nothing_left(&engine);
        });
    }
}

/// Objects in the slot of a CPU that goes are no reason for Busy (I16).
#[test]
fn destroy_against_cpu_down() {
    explore("destroy against cpu_down", Some(4), || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        fill_slot_of(&cache, 1);
        let leaver = on(&engine, 0, down(&engine, 1));
        cache.destroy().expect("nobody holds an object");
        join(leaver);
        valid(&engine, 0);
        nothing_left(&engine);
    });
}

/// A user holds an object and goes on to use the cache: destroy says Busy, and harms nothing (I16, I17).
#[test]
fn destroy_against_a_user_who_holds_an_object() {
    explore("destroy against a user", Some(3), || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        let held = cache.alloc();
        let other = cache.clone();
        let user = on(&engine, 1, move || {
            let object = other.alloc();
            other.free(object);
        });
        assert!(matches!(cache.destroy(), Err(DestroyError::Busy { live: 1.. })));
        join(user);
        let object = cache.alloc();
        cache.free(object);
        cache.free(held);
        cache.end();
    });
}

#[test]
fn shrink_against_down_and_up() {
    explore("shrink against down and up", Some(3), || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        fill_slot_of(&cache, 1);
        let transitions = (down(&engine, 1), up(&engine, 1));
        let driver = on(&engine, 0, move || {
            transitions.0();
            transitions.1();
        });
        cache.shrink();
        join(driver);
        cache.end();
    });
}

/// A cache is tuned while a CPU that holds some of it goes and comes: nothing is lost, and no slot keeps the old
/// capacity (I9). The fix of 2004 forgot this one.
#[test]
fn tune_against_down_and_up() {
    for population in BOTH {
        for capacity in [2, 16] {
            explore("tune against down and up", Some(3), move || {
                let engine = engine(Machine::new(2, &[0, 1]).with_granules(12), population);
                let cache = Cache::new(&engine, "c", EIGHT);
                fill_slot_of(&cache, 1);
                let transitions = (down(&engine, 1), up(&engine, 1));
                let driver = on(&engine, 0, move || {
                    transitions.0();
                    transitions.1();
                });
                engine.tune(cache.id, capacity).expect("a cache");
                join(driver);
                migrate(1);
                holds(&cache, 1, capacity);
                cache.end();
            });
        }
    }
}

/// Two tunes, and a CPU that comes up with magazines of the cache: one of the two capacities is everywhere.
#[test]
fn tune_against_tune_and_up() {
    explore("tune against tune and up", Some(2), || {
        let engine = engine(Machine::new(2, &[0]), Population::Eager);
        let cache = Cache::new(&engine, "c", EIGHT);
        let comer = on(&engine, 0, up(&engine, 1));
        let (other, id) = (engine.clone(), cache.id);
        let tuner = on(&engine, 0, move || other.tune(id, 16).expect("a cache"));
        engine.tune(cache.id, 2).expect("a cache");
        join(tuner);
        join(comer);
        let capacity = engine.with_stats(cache.id, |stats| stats.capacity).expect("a cache");
        assert!([2, 16].contains(&capacity));
        (0..2).for_each(|cpu| holds(&cache, cpu, capacity));
        cache.end();
    });
}

/// A cache is tuned while it is destroyed: what the tune has in its hands is no reason for Busy (I16).
#[test]
fn tune_against_destroy() {
    explore("tune against destroy", Some(3), || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        fill_slot_of(&cache, 0);
        let (other, id) = (engine.clone(), cache.id);
        let tuner = on(&engine, 1, move || match other.tune(id, 2) {
            Ok(()) | Err(TuneError::NoSuchCache) => {}
            error => panic!("{error:?}"),
        });
        cache.destroy().expect("nobody holds an object");
        join(tuner);
        valid(&engine, 0);
        nothing_left(&engine);
    });
}

/// The magazine of a CPU grows while the CPU goes down (I9).
#[test]
fn growth_against_down_and_up() {
    explore("growth against down and up", Some(3), || {
        let engine = engine(Machine::new(2, &[0, 1]).with_granules(12), Population::OnFirstUse);
        let (cache, mut held) = about_to_grow(&engine);
        let transitions = (down(&engine, 0), up(&engine, 0));
        let driver = on(&engine, 1, move || {
            transitions.0();
            transitions.1();
        });
        held.push(cache.alloc());
        join(driver);
        cache.free_bulk(&held);
        cache.end();
    });
}

/// A CPU goes under a thread that allocates and frees there; it is served by the depot meanwhile (I3, I8, I42).
#[test]
fn alloc_and_free_against_cpu_down() {
    explore("alloc and free against cpu_down", Some(4), || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        fill_slot_of(&cache, 0);
        let leaver = on(&engine, 1, down(&engine, 0));
        let object = cache.alloc();
        cache.free(object);
        join(leaver);
        cache.end();
    });
}

/// A CPU that left comes back with the first thread that runs there, at the same time as somebody brings it up by name.
#[test]
fn adoption_against_cpu_up() {
    explore("adoption against cpu_up", Some(3), || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        engine.cpu_left(1).expect("a CPU that leaves");
        let driver = {
            let engine = engine.clone();
            on(&engine.clone(), 0, move || match engine.cpu_up(1) {
                Ok(()) | Err(HotplugError::AlreadyOnline { cpu: 1 }) => {}
                error => panic!("{error:?}"),
            })
        };
        migrate(1);
        let object = cache.alloc();
        cache.free(object);
        join(driver);
        assert!(engine.online_cpus().contains(1));
        cache.end();
    });
}

/// A preparation fails for want of memory at each call for it in turn, or because a listener refuses, and is canceled,
/// while a cache is created (I15, I22, I23).
#[test]
fn prepare_fails_at_each_step_and_is_canceled() {
    // The area, then a chunk for magazines; at 2 no call fails, and the listener refuses.
    for step in 0..3 {
        let failed = Arc::new(AtomicUsize::new(0));
        let count = failed.clone();
        explore("prepare fails, is canceled", Some(3), move || {
            let engine = engine(Machine::new(2, &[0]), Population::Eager);
            let [first, another] = ["first", "another"].map(|name| Cache::new(&engine, name, 64));
            if step == 2 {
                listen(&engine, |event, _| if event == Event::UpPrepare { Err(Refused) } else { Ok(()) });
            }
            let (comer, count) = (engine.clone(), count.clone());
            let comer = on(&engine, 1, move || {
                comer.platform().fail_nth(step);
                let result = comer.cpu_up(1);
                comer.platform().fail_never();
                match result {
                    Err(HotplugError::NoMemory { cpu: 1 }) if step < 2 => count.fetch_add(1, Ordering::Relaxed),
                    Err(HotplugError::Refused { cpu: 1 }) if step == 2 => count.fetch_add(1, Ordering::Relaxed),
                    // The create met the failure instead.
                    Ok(()) if step < 2 => 0,
                    result => panic!("{result:?}"),
                };
            });
            let second = Cache::create(&engine, "second", EIGHT);
            join(comer);
            if let Ok(second) = second {
                second.destroy().expect("nobody holds an object");
            }
            another.destroy().expect("nobody holds an object");
            first.end();
        });
        assert!(failed.load(Ordering::Relaxed) > 0, "step {step} never failed");
    }
}

/// A reader of the statistics reaches a cache that goes: it is kept until the reader has left (I19).
#[test]
fn statistics_against_destroy() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    explore("statistics against destroy", Some(3), move || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        fill_slot_of(&cache, 0);
        let reader = {
            let (engine, count) = (engine.clone(), count.clone());
            on(&engine.clone(), 1, move || {
                engine.for_each_cache(|stats| {
                    count.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(stats.name, "c");
                    assert_eq!(stats.live, 0);
                    assert!(stats.total <= 8);
                });
            })
        };
        cache.destroy().expect("nobody holds an object");
        join(reader);
        nothing_left(&engine);
    });
    assert!(seen.load(Ordering::Relaxed) > 0, "the reader never met the cache");
}

#[test]
fn two_creates_of_one_name() {
    explore("two creates of one name", Some(3), || {
        let engine = engine(Machine::new(1, &[0]), Population::OnFirstUse);
        let other = {
            let engine = engine.clone();
            on(&engine.clone(), 0, move || Cache::create(&engine, "c", EIGHT).ok())
        };
        let mine = Cache::create(&engine, "c", EIGHT).ok();
        let theirs = join(other);
        assert!(mine.is_some() != theirs.is_some(), "one wins (I13)");
        mine.or(theirs).into_iter().for_each(Cache::end);
    });
}

#[test]
fn two_destroys_of_one_cache() {
    explore("two destroys of one cache", Some(3), || {
        let engine = engine(Machine::new(1, &[0]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        fill_slot_of(&cache, 0);
        let theirs = {
            let cache = cache.clone();
            on(&engine, 0, move || cache.destroy())
        };
        let mine = cache.destroy();
        let results = [mine, join(theirs)];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?} (I20)");
        assert!(results.contains(&Err(DestroyError::NoSuchCache)));
        nothing_left(&engine);
    });
}
