//! Whose code runs on which thread: what a thread that does upkeep calls runs nobody's (no constructor, no destructor,
//! no listener), and what it left runs on the next thread that comes to the cache. Caches with nothing to end are
//! looked after like any other.

mod common;

use common::counted::{Counted, touch};
use common::{Cache, E, Figures, config, ends, engine, engine_of, fill, is_filled, listen, spec, valid};
use kmem_core::cache::ObjectOps;
use kmem_core::cpu::CpuSet;
use kmem_core::{DestroyError, HotplugError, Population};
use kmem_sim::fake::{self, Machine};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

/// Sixteen granules of objects that fill a granule each, so that slabs become empty with every one.
const LARGE: usize = 65_536;

/// A cache whose constructor and destructor fail on threads of upkeep, and the books.
fn guarded(engine: &E) -> (Cache, &'static Counted) {
    let counted = Counted::new();
    let cache = counted.cache(engine, "guarded", LARGE);
    let only_here = |what: &'static str| {
        move |_| assert_ne!(thread::current().name(), Some("upkeep"), "{what} ran on a thread of upkeep")
    };
    counted.on_construct(only_here("a constructor"));
    counted.on_destruct(only_here("a destructor"));
    (cache, counted)
}

fn on_upkeep<R: Send + 'static>(engine: &E, work: impl FnOnce(&E) -> R + Send + 'static) -> R {
    let engine = engine.clone();
    let thread = thread::Builder::new().name("upkeep".into()).spawn(move || work(&engine));
    thread.expect("a thread").join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Leaves objects in the slot of CPU 1, in the depot and on slabs, some of these empty.
fn leave_some(cache: &Cache) {
    fake::run_on(1);
    let held = cache.bulk(8);
    fake::run_on(0);
    cache.free_bulk(&cache.bulk(40));
    fake::run_on(1);
    cache.free_bulk(&held);
    fake::run_on(0);
}

fn roomy() -> E {
    engine_of(Machine { granules: 2048, ..Machine::with_cpus(2) }, config(Population::OnFirstUse))
}

#[test]
fn nothing_that_upkeep_calls_runs_a_constructor_or_a_destructor() {
    let engine = roomy();
    let (cache, counted) = guarded(&engine);
    leave_some(&cache);
    let before = counted.now();
    on_upkeep(&engine, |engine| {
        engine.cpu_left_quietly(1).expect("CPU 0 stays");
        engine.cpu_came_quietly(1).expect("it is down");
        assert!(engine.try_cpu_left(1));
        let none = CpuSet::new();
        for _ in 0..4 {
            let _ = (engine.age(&none), engine.drain_cpus(&CpuSet::first(2)), engine.reap_depots());
            let _ = (engine.age_here(), engine.end_period(), engine.relieve(&none), engine.decay());
        }
        let _ = engine.no_decay();
    });
    assert_eq!(counted.now(), before, "what is constructed stays so");
    assert_eq!(valid(&engine, 0).in_slots, 0, "the CPUs were emptied all the same");
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}

/// The first of these to come runs what upkeep left.
fn ends_what_was_left(come: impl FnOnce(&Cache)) {
    let engine = roomy();
    let (cache, counted) = guarded(&engine);
    leave_some(&cache);
    // All of it comes to the slabs, and none goes further.
    on_upkeep(&engine, |engine| {
        engine.cpu_left_quietly(1).expect("CPU 0 stays");
        let _ = engine.drain_cpus(&CpuSet::of(0));
    });
    let left = cache.figures();
    assert!(left.slabs > 6, "{left:?}");
    come(&cache);
    let Figures { slabs, .. } = cache.figures();
    assert!(slabs < left.slabs, "{slabs} of {} slabs are left", left.slabs);
    assert!(counted.now() <= cache.figures().total);
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
    valid(&engine, 0);
}

#[test]
fn the_next_miss_of_the_cache_ends_what_upkeep_left() {
    ends_what_was_left(|cache| {
        let object = cache.alloc();
        touch(object);
        cache.free(object);
    });
    ends_what_was_left(|cache| _ = cache.shrink());
    ends_what_was_left(|cache| _ = cache.engine.trim().expect("not in a callback"));
}

#[test]
fn a_free_ends_what_upkeep_left() {
    let engine = roomy();
    let (cache, counted) = guarded(&engine);
    let held = cache.bulk(12);
    leave_some(&cache);
    on_upkeep(&engine, |engine| {
        engine.cpu_left_quietly(1).expect("CPU 0 stays");
        let _ = engine.drain_cpus(&CpuSet::of(0));
    });
    let before = counted.destructed.load(Ordering::Relaxed);
    // There is no slot: a miss, whose object the depot has room for.
    cache.free(held[0]);
    assert!(counted.destructed.load(Ordering::Relaxed) > before);
    cache.free_bulk(&held[1..]);
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}

#[test]
fn a_panic_in_what_was_left_loses_nothing() {
    let engine = roomy();
    let (cache, counted) = guarded(&engine);
    leave_some(&cache);
    on_upkeep(&engine, |engine| {
        engine.cpu_left_quietly(1).expect("CPU 0 stays");
        let _ = engine.drain_cpus(&CpuSet::of(0));
    });
    counted.on_destruct(Counted::panic_at(0));
    assert!(common::panics(|| _ = cache.alloc()));
    valid(&engine, 0);
    cache.free(cache.alloc());
    cache.destroy().expect("nobody uses it");
    assert_eq!(counted.now(), 0);
}

#[test]
fn a_cpu_that_goes_by_name_runs_destructors_where_it_was_asked_for() {
    let engine = roomy();
    let counted = Counted::new();
    let cache = counted.cache(&engine, "by name", LARGE);
    leave_some(&cache);
    let me = thread::current().id();
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let count = elsewhere.clone();
    counted.on_destruct(move |_| _ = count.fetch_add(usize::from(thread::current().id() != me), Ordering::Relaxed));
    let slabs = cache.figures().slabs;
    engine.cpu_down(1).expect("CPU 0 stays");
    assert!(cache.figures().slabs < slabs);
    assert_eq!(elsewhere.load(Ordering::Relaxed), 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn listeners_are_not_called_by_upkeep() {
    let engine = engine(2);
    let heard: Arc<std::sync::Mutex<Vec<ThreadId>>> = Arc::default();
    let hear = heard.clone();
    listen(&engine, move |_, _| {
        hear.lock().expect("not poisoned").push(thread::current().id());
        Ok(())
    });
    let refused = HotplugError::HasListeners { cpu: 1 };
    on_upkeep(&engine, move |engine| {
        assert_eq!(engine.cpu_left_quietly(1), Err(refused));
        assert!(!engine.try_cpu_left(1));
        assert_eq!(engine.cpu_came_quietly(1), Err(refused));
    });
    assert!(engine.online_cpus().contains(1), "nothing has changed");
    assert!(heard.lock().expect("not poisoned").is_empty());
    // By name, and for a program that follows its CPUs itself, they are.
    engine.cpu_left(1).expect("the listener agrees");
    engine.cpu_came(1).expect("the listener agrees");
    assert!(heard.lock().expect("not poisoned").iter().all(|id| *id == thread::current().id()));
}

/// What a constructor without a destructor makes of an object: its size stands in the context.
unsafe fn patterned(context: *mut (), object: *mut u8) {
    fill(object as usize, context as usize, 7);
}

fn constructor_only(engine: &E, size: usize) -> Cache {
    // SAFETY: the context is no address; a pattern is all that is made.
    let ops = unsafe { ObjectOps::new(std::ptr::without_provenance_mut(size), patterned, None) };
    Cache::with_ops(engine, &format!("patterned {size}"), size, ops)
}

/// Objects that begin and end inside of pages, on page boundaries, and beyond them.
const SIZES: [usize; 6] = [24, 100, 1000, 4096, 5000, 70_000];

#[test]
fn a_cache_with_nothing_to_end_gives_back_like_any_other() {
    for size in SIZES {
        let give_back: [fn(&Cache); 4] = [
            |cache| (0..12).for_each(|_| _ = cache.engine.decay()),
            |cache| _ = cache.engine.relieve(&CpuSet::new()),
            |cache| _ = cache.shrink(),
            |cache| _ = cache.engine.trim().expect("not in a callback"),
        ];
        for give_back in give_back {
            let engine = roomy();
            let with = constructor_only(&engine, size);
            let without = Cache::of(&engine, &spec("plain", size)).expect("a cache");
            let figures = [&with, &without].map(|cache| {
                let objects = cache.bulk(4_000_000 / size);
                // Survivors are pages apart.
                let (kept, freed): (Vec<_>, Vec<_>) =
                    objects.iter().enumerate().partition(|(n, _)| n % (20 + 20_000 / size) == 0);
                let [kept, freed] =
                    [kept, freed].map(|list| list.into_iter().map(|(_, object)| *object).collect::<Vec<_>>());
                cache.free_bulk(&freed);
                give_back(cache);
                let Figures { slabs, in_depot, .. } = cache.figures();
                cache.free_bulk(&kept);
                (slabs, in_depot)
            });
            assert_eq!(figures[0], figures[1], "{size}");
        }
    }
}

#[test]
fn what_was_constructed_on_pages_that_went_is_constructed_again() {
    for size in SIZES {
        let engine = roomy();
        let cache = constructor_only(&engine, size);
        let mut objects = cache.bulk(4_000_000 / size);
        // Survivors are pages apart.
        let apart = 20 + 20_000 / size;
        for round in 0..3 {
            let (kept, freed): (Vec<_>, Vec<_>) =
                objects.iter().enumerate().partition(|(n, _)| n % (apart + round) == 0);
            let [kept, freed] =
                [kept, freed].map(|list| list.into_iter().map(|(_, object)| *object).collect::<Vec<_>>());
            cache.free_bulk(&freed);
            (0..3).for_each(|_| _ = engine.decay());
            let purged = valid(&engine, kept.len()).purged_pages;
            assert!(purged > 50 || size > 4096, "{size}: {purged} pages went");
            objects = cache.bulk(freed.len());
            objects.extend(kept);
            assert!(objects.iter().all(|object| is_filled(*object, size, 7)), "{size}: all are as constructed");
        }
        cache.free_bulk(&objects);
        cache.destroy().expect("nobody uses it");
    }
}

#[test]
fn an_object_that_is_kept_is_not_constructed_again() {
    let engine = engine(1);
    let cache = constructor_only(&engine, 100);
    let objects = cache.bulk(1000);
    objects.iter().for_each(|object| fill(*object, 100, 9));
    cache.free_bulk(&objects);
    let again = cache.bulk(1000);
    let kept = again.iter().filter(|object| is_filled(**object, 100, 9)).count();
    assert!(kept > 900, "{kept} of 1000 are as they were left");
    cache.free_bulk(&again);
    ends(move || cache.destroy()).expect("nobody uses it");
}

#[test]
fn a_destructor_cannot_destroy_its_own_cache_and_does_not_hang() {
    let give_back: [fn(&Cache); 4] = [
        |cache| _ = cache.engine.trim(),
        |cache| _ = cache.shrink(),
        |cache| cache.engine.cpu_down(1).expect("CPU 0 stays"),
        |cache| cache.free_bulk(&cache.bulk(60)),
    ];
    for give_back in give_back {
        let engine = roomy();
        let counted = Counted::new();
        let cache = counted.cache(&engine, "suicidal", LARGE);
        leave_some(&cache);
        let answers: Arc<std::sync::Mutex<Vec<_>>> = Arc::default();
        let (own, answered) = (cache.clone(), answers.clone());
        counted.on_destruct(move |_| answered.lock().expect("not poisoned").push(own.destroy()));
        let user = cache.clone();
        ends(move || give_back(&user));
        let answers = std::mem::take(&mut *answers.lock().expect("not poisoned"));
        assert!(!answers.is_empty() && answers.iter().all(|answer| *answer == Err(DestroyError::InsideItself)));
        // It is as it was, and ends as it should. While it ends its id names no cache any more.
        cache.free(cache.alloc());
        valid(&engine, 0);
        let user = cache.clone();
        ends(move || user.destroy()).expect("nobody uses it");
        assert_eq!(counted.now(), 0);
    }
}

#[test]
fn a_visitor_cannot_destroy_the_cache_that_it_looks_at_and_may_destroy_others() {
    let engine = engine(1);
    let [looked_at, other] = ["looked at", "other"].map(|name| Cache::new(&engine, name, 64));
    looked_at.fill_slot();
    let user = (engine.clone(), looked_at.clone());
    ends(move || {
        let (engine, cache) = user;
        let refused = Err(DestroyError::InsideItself);
        let mut seen = 0;
        engine.for_each_cache(|stats| {
            if stats.name == "looked at" {
                assert_eq!(cache.destroy(), refused);
                other.destroy().expect("nobody uses it");
                seen += 1;
            }
        });
        engine.for_each_slot(|_, _, _| {
            assert_eq!(cache.destroy(), refused);
            seen += 1;
        });
        engine.with_stats(cache.id, |_| assert_eq!(cache.destroy(), refused)).expect("it lives");
        // On other threads it waits for who looks, which is not this one.
        assert!(common::panics(|| engine.for_each_cache(|_| common::panic_now())));
        assert_eq!(seen, 2);
        cache.destroy().expect("nobody looks any more");
    });
    valid(&engine, 0);
}
