//! One slot: sections against its drain, its being enabled, and its growth.

use kmem_core::Population;
use kmem_core::cpu::CpuSet;
use kmem_core::slab::FreeError;

use crate::checked::cache::{ALONE, EIGHT};
use crate::checked::platform::{believe, migrate};
use crate::checked::{Cache, E, Machine, engine, engine_that, join, no_bad_free, on};
use crate::explore::explore;

fn two_cpus() -> E {
    engine(Machine::new(2, &[0, 1]).with_granules(12), Population::OnFirstUse)
}

/// A cache of whose objects some are in the slot of CPU 0.
fn cached(engine: &E) -> Cache {
    let cache = Cache::new(engine, "c", EIGHT);
    let object = cache.alloc();
    cache.free(object);
    cache
}

#[test]
fn alloc_and_free_against_a_drain_of_their_slot() {
    explore("alloc and free against a drain", Some(3), || {
        let engine = two_cpus();
        let cache = cached(&engine);
        let drained = cache.clone();
        let drainer = on(&engine, 1, move || drained.shrink());
        let first = cache.alloc();
        let second = cache.alloc();
        cache.free(first);
        join(drainer);
        cache.free(second);
        cache.end();
    });
}

#[test]
fn alloc_and_free_against_ageing() {
    explore("alloc and free against ageing", Some(3), || {
        let engine = two_cpus();
        let cache = cached(&engine);
        let _first_look = engine.age(&CpuSet::new());
        let ager = {
            let engine = engine.clone();
            on(&engine.clone(), 1, move || _ = engine.age(&CpuSet::new()))
        };
        let object = cache.alloc();
        cache.free(object);
        join(ager);
        cache.end();
    });
}

/// CPU 0 allocates while CPU 1 drains its slot; then all objects of the slab are taken.
fn alloc_against_a_drain(machine: Machine, bad_free: fn(usize, FreeError)) {
    let engine = engine_that(machine, Population::OnFirstUse, bad_free);
    let cache = cached(&engine);
    // So that the slab stays, whatever the drain gives back.
    let kept = cache.alloc();
    let drained = cache.clone();
    let drainer = on(&engine, 1, move || drained.shrink());
    let object = cache.alloc();
    join(drainer);
    migrate(1);
    let rest = cache.alloc_bulk(7);
    cache.free_bulk(&rest);
    cache.free(object);
    cache.free(kept);
    cache.end();
}

#[test]
fn alloc_against_a_drain_of_its_slot() {
    explore("alloc against a drain", Some(4), || alloc_against_a_drain(Machine::new(2, &[0, 1]), no_bad_free));
}

/// The negative control: the same model without the fence, which loom must not survive.
#[test]
#[should_panic(expected = "handed out twice")]
fn without_the_fence_an_object_is_handed_out_twice() {
    explore("alloc against a drain, no fence", Some(4), || {
        // The drain may find an object twice first. This is about what users get.
        alloc_against_a_drain(Machine::new(2, &[0, 1]).without_fence(), |_, _| ());
    });
}

#[test]
fn two_threads_of_one_cpu_against_a_drain() {
    explore("two threads of one CPU against a drain", Some(2), || {
        let engine = two_cpus();
        let cache = cached(&engine);
        let (other, drained) = (cache.clone(), cache.clone());
        let neighbour = on(&engine, 0, move || other.alloc());
        let drainer = on(&engine, 1, move || drained.shrink());
        let mine = cache.alloc();
        let theirs = join(neighbour);
        join(drainer);
        cache.free(mine);
        cache.free(theirs);
        cache.end();
    });
}

/// A thread on CPU 1 that believes to be on CPU 0 enables the slot there, while sections run on CPU 0: no fence is
/// between them (I4).
#[test]
fn enabling_without_a_fence_against_sections() {
    explore("enabling against sections", Some(3), || {
        let engine = two_cpus();
        let cache = cached(&engine);
        let object = cache.alloc();
        cache.shrink();
        let enabled = cache.clone();
        let enabler = on(&engine, 1, move || {
            believe(0);
            enabled.alloc()
        });
        cache.free(object);
        let again = cache.alloc();
        let theirs = join(enabler);
        cache.free(again);
        cache.free(theirs);
        cache.end();
    });
}

/// The slot of CPU 0 was never enabled, and CPU 0 has no area: both come while a section runs.
#[test]
fn the_first_area_of_a_cpu_against_sections() {
    explore("a CPU's first area against sections", Some(3), || {
        let engine = two_cpus();
        let cache = Cache::new(&engine, "c", EIGHT);
        let theirs = cache.clone();
        let other = on(&engine, 1, move || {
            believe(0);
            theirs.alloc()
        });
        let mine = cache.alloc();
        cache.free(mine);
        let theirs = join(other);
        cache.free(theirs);
        cache.end();
    });
}

#[test]
fn objects_of_which_a_slot_holds_one() {
    explore("magazines of one object", Some(3), || {
        let engine = two_cpus();
        let cache = Cache::new(&engine, "c", ALONE);
        let first = cache.alloc();
        let other = cache.clone();
        let neighbour = on(&engine, 0, move || {
            cache.free(first);
            let again = cache.try_alloc();
            again.into_iter().for_each(|object| cache.free(object));
        });
        let second = other.alloc();
        other.free(second);
        join(neighbour);
        other.end();
    });
}

/// Overflow and underflow have taken turns, and the slot of CPU 0 is empty: the next alloc there makes its magazine
/// grow. With the objects that users hold.
pub fn about_to_grow(engine: &E) -> (Cache, Vec<usize>) {
    let cache = Cache::new(engine, "c", EIGHT);
    for _ in 0..4 {
        let objects = cache.alloc_bulk(12);
        cache.free_bulk(&objects);
    }
    let in_slot = engine.with_stats(cache.id, |stats| stats.in_slots).expect("a cache that lives");
    let held = cache.alloc_bulk(in_slot);
    (cache, held)
}

#[test]
fn the_models_of_growth_do_grow() {
    explore("growth by itself", None, || {
        let engine = two_cpus();
        let (cache, held) = about_to_grow(&engine);
        let fences = engine.platform().fence_count();
        let object = cache.alloc();
        assert_eq!(engine.platform().fence_count(), fences + 1);
        cache.free(object);
        cache.free_bulk(&held);
        cache.end();
    });
}

#[test]
fn growth_against_sections() {
    explore("growth against sections", Some(3), || {
        let engine = two_cpus();
        let (cache, mut held) = about_to_grow(&engine);
        let object = held.pop().expect("a slot that was not empty");
        let other = cache.clone();
        let neighbour = on(&engine, 0, move || {
            other.free(object);
            other.alloc()
        });
        held.push(cache.alloc());
        held.push(join(neighbour));
        cache.free_bulk(&held);
        cache.end();
    });
}

/// A tune takes a slot's magazine away, while sections run on it (I9, I38).
#[test]
fn tune_against_sections() {
    for capacity in [2, 16] {
        explore("tune against sections", Some(3), move || {
            let engine = two_cpus();
            let cache = cached(&engine);
            let (other, id) = (engine.clone(), cache.id);
            let tuner = on(&engine, 1, move || other.tune(id, capacity).expect("a cache"));
            let first = cache.alloc();
            let second = cache.alloc();
            cache.free(first);
            join(tuner);
            cache.free(second);
            cache.end();
        });
    }
}

#[test]
fn growth_against_a_drain() {
    explore("growth against a drain", Some(3), || {
        let engine = two_cpus();
        let (cache, mut held) = about_to_grow(&engine);
        let drained = cache.clone();
        let drainer = on(&engine, 1, move || drained.shrink());
        held.push(cache.alloc());
        join(drainer);
        cache.free_bulk(&held);
        cache.end();
    });
}
