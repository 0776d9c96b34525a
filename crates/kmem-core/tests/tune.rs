//! The capacity of magazines: changed on a live cache, on all CPUs, with nothing lost (I9).

mod common;

use common::{Cache, E, distinct, eager, engine, engine_of, listen, valid, with_room};
use kmem_core::cpu::{Event, Refused};
use kmem_core::{Population, TuneError, Tuning};
use kmem_sim::fake;

fn tune(cache: &Cache, capacity: usize) {
    cache.engine.tune(cache.id, capacity).expect("a live cache, and a capacity in range");
}

/// A cache of 64-byte objects, with as many in the slots of the first `cpus` CPUs as fit.
fn filled(engine: &E, cpus: usize) -> Cache {
    let cache = Cache::new(engine, "tuned", 64);
    (0..cpus).for_each(|cpu| _ = fill_up(&cache, cpu));
    cache
}

/// Frees more on `cpu` than its slot holds, one by one, and answers how many it held when it was full.
fn fill_up(cache: &Cache, cpu: usize) -> usize {
    fake::run_on(cpu);
    let mut objects = cache.bulk(700);
    // Until a miss says that the slot was empty: then only others hold something.
    let others = loop {
        let before = cache.figures().in_slots;
        objects.push(cache.alloc());
        if cache.figures().in_slots >= before {
            break before;
        }
    };
    let held = |object| {
        cache.free(object);
        cache.figures().in_slots - others
    };
    objects.into_iter().map(held).max().expect("700 objects")
}

#[test]
fn smaller_magazines_hold_less_on_every_cpu_and_nothing_is_lost() {
    let engine = engine(3);
    let cache = filled(&engine, 3);
    let before = cache.figures();
    assert!(before.in_slots > 3 * 60, "{before:?}");
    tune(&cache, 20);
    let after = cache.figures();
    assert_eq!((after.in_slots, after.cpus), (3 * 20, 3), "what fits stays where it was");
    assert_eq!(after.in_slots + after.in_depot + after.free, before.in_slots + before.in_depot + before.free);
    valid(&engine, 0);
    for _ in 0..10 {
        (0..3).for_each(|cpu| assert_eq!(fill_up(&cache, cpu), 20, "they do not grow by themselves"));
    }
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn larger_magazines_keep_what_they_had_and_hold_more() {
    let engine = engine(2);
    let cache = filled(&engine, 2);
    let before = cache.figures().in_slots;
    tune(&cache, 500);
    assert_eq!(cache.figures().in_slots, before, "a tune fetches nothing");
    (0..2).for_each(|cpu| assert_eq!(fill_up(&cache, cpu), 500));
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn slots_that_are_enabled_later_have_the_new_capacity() {
    for population in [Population::OnFirstUse, Population::Eager] {
        let engine = if population == Population::Eager { eager(3) } else { engine(3) };
        engine.cpu_down(2).expect("others stay");
        let cache = filled(&engine, 1);
        tune(&cache, 30);
        engine.cpu_up(2).expect("it is down");
        (0..3).for_each(|cpu| assert_eq!(fill_up(&cache, cpu), 30, "{population:?}"));
        valid(&engine, 0);
        cache.shrink();
        assert_eq!(cache.figures().cpus, 0);
        (0..3).for_each(|cpu| assert_eq!(fill_up(&cache, cpu), 30, "{population:?}"));
        cache.destroy().expect("nobody uses it");
        valid(&engine, 0);
    }
}

/// The depot's magazines hold more than the slot then: what it does not take goes back.
#[test]
fn a_slot_of_few_objects_serves() {
    for capacity in [1, 3] {
        let engine = engine(2);
        let cache = filled(&engine, 2);
        tune(&cache, capacity);
        assert_eq!(cache.figures().in_slots, 2 * capacity);
        let mut held = cache.bulk(300);
        held.extend((0..50).map(|_| cache.alloc()));
        assert!(distinct(&held));
        valid(&engine, 350);
        held.iter().for_each(|object| cache.free(*object));
        assert!(cache.figures().in_slots <= 2 * capacity);
        valid(&engine, 0);
        cache.destroy().expect("nobody uses it");
    }
}

#[test]
fn users_keep_what_they_hold() {
    let engine = engine(2);
    let cache = filled(&engine, 2);
    let held = cache.bulk(333);
    for capacity in [7, 300, 1, 2047, 64] {
        tune(&cache, capacity);
        valid(&engine, 333);
    }
    cache.free_bulk(&held);
    cache.destroy().expect("nobody uses it");
    assert_eq!(engine.page_stats().used, 0);
}

/// One fence, whatever the number of CPUs; none where no slot is enabled, or all are as they shall be.
#[test]
fn it_costs_one_fence() {
    let engine = engine(4);
    let cache = filled(&engine, 4);
    let fences = || engine.platform().fence_count();
    let before = fences();
    tune(&cache, 50);
    assert_eq!(fences(), before + 1);
    cache.shrink();
    let before = fences();
    tune(&cache, 60);
    assert_eq!(fences(), before);
}

#[test]
fn senseless_capacities_are_refused_and_change_nothing() {
    let engine = engine(1);
    let cache = filled(&engine, 1);
    let before = cache.figures();
    for capacity in [0, 2048, usize::MAX] {
        let error = engine.tune(cache.id, capacity).expect_err("out of range");
        assert_eq!(error, TuneError::CapacityOutOfRange { capacity, max: 2047 });
        assert!(error.to_string().contains("1 to 2047"), "{error}");
    }
    assert_eq!(cache.figures(), before);
    // The default is in range, also where it is more than 256 KiB.
    let large = Cache::new(&engine, "large", 300_000);
    tune(&large, 1);
    assert_eq!(engine.tune(large.id, 2), Err(TuneError::CapacityOutOfRange { capacity: 2, max: 1 }));
    cache.destroy().expect("nobody uses it");
    assert_eq!(engine.tune(cache.id, 10), Err(TuneError::NoSuchCache));
}

#[test]
fn a_callback_is_told_no() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "asked", 64);
    let (other, id) = (engine.clone(), cache.id);
    listen(&engine, move |event, _| {
        assert_eq!(other.tune(id, 10), Err(TuneError::InsideCallback));
        if event == Event::DownPrepare { Err(Refused) } else { Ok(()) }
    });
    engine.cpu_down(1).expect_err("refused");
    tune(&cache, 10);
}

/// Without memory for new magazines, slots are emptied and come back with the first miss for which there is some.
#[test]
fn without_memory_nothing_is_lost_and_the_capacity_holds_later() {
    let engine = engine_of(with_room(2, 40), common::config(Population::OnFirstUse));
    let cache = filled(&engine, 2);
    let total = cache.figures().total;
    // A magazine will need 16,000 bytes, of which the arena has none.
    let others = (0..).map(|n| Cache::new(&engine, &format!("other {n}"), 64));
    others.take_while(|_| engine.meta_bytes() - engine.meta_used() > 16_000).for_each(drop);
    engine.platform().fail_from(0);
    tune(&cache, 2000);
    valid(&engine, 0);
    assert_eq!((cache.figures().cpus, cache.figures().total), (0, total), "no slot of the old capacity is left");
    let held = cache.bulk(100);
    valid(&engine, 100);
    engine.platform().fail_never();
    cache.free_bulk(&held);
    assert!(fill_up(&cache, 0) > 700, "all of them");
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
}

/// What is set beside the limit.
fn beside(batch: Option<usize>, depot: Option<usize>) -> Tuning {
    Tuning { batch, depot, ..Tuning::default() }
}

#[test]
fn a_depot_holds_as_many_magazines_as_it_is_tuned_to() {
    let engine = engine(2);
    let cache = filled(&engine, 2);
    let held = cache.figures().in_depot;
    assert!(held > 60, "{held} in the depot");
    for (depot, most) in [(1, 60), (0, 0)] {
        engine.tune(cache.id, beside(None, Some(depot))).expect("in range");
        let now = cache.figures().in_depot;
        assert!(now <= most, "{now} in a depot of {depot}");
        (0..2).for_each(|cpu| _ = fill_up(&cache, cpu));
        let later = cache.figures().in_depot;
        assert!(later <= most, "{later} in a depot of {depot}, later");
        valid(&engine, 0);
    }
    engine.tune(cache.id, beside(None, Some(256))).expect("in range");
    (0..2).for_each(|cpu| _ = fill_up(&cache, cpu));
    assert!(cache.figures().in_depot > 0, "it may hold something again");
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn a_batch_moves_as_many_objects_as_it_is_tuned_to() {
    let engine = engine(1);
    let cache = filled(&engine, 1);
    engine.tune(cache.id, beside(Some(5), None)).expect("in range");
    let mut objects = Vec::new();
    for _ in 0..1000 {
        let before = cache.figures();
        objects.push(cache.alloc());
        let after = cache.figures();
        // A miss brings a batch, of which one is handed out.
        assert!(after.in_slots <= before.in_slots.saturating_sub(1).max(4), "{before:?}, {after:?}");
    }
    valid(&engine, 1000);
    objects.into_iter().for_each(|object| cache.free(object));
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn batches_and_depots_out_of_range_are_refused_and_change_nothing() {
    let engine = engine(1);
    let cache = Cache::new(&engine, "tuned", 64);
    tune(&cache, 10);
    let refused = |tuning| engine.tune(cache.id, tuning).expect_err("out of range");
    assert_eq!(refused(beside(Some(0), None)), TuneError::BatchOutOfRange { batch: 0, max: 10 });
    assert_eq!(refused(beside(Some(11), Some(1))), TuneError::BatchOutOfRange { batch: 11, max: 10 });
    assert_eq!(refused(beside(Some(5), Some(257))), TuneError::DepotOutOfRange { depot: 257, max: 256 });
    let both = Tuning { limit: Some(3), batch: Some(4), depot: None };
    assert_eq!(refused(both), TuneError::BatchOutOfRange { batch: 4, max: 3 });
    assert_eq!(fill_up(&cache, 0), 10, "the limit that came with it was not set");
    cache.destroy().expect("nobody uses it");
}
