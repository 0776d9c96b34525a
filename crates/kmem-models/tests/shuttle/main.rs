//! shuttle: the engine under storms too large for loom, on many random schedules.
//!
//! ```text
//! cargo test --manifest-path crates/kmem-models/Cargo.toml --release --features shuttle -- --nocapture
//! ```
//! *What runs.* The engine itself, with the types of `sync/shuttle_types.rs`, on the platform of
//! `tests/checked/platform.rs`. A storm is three or four threads on two to four CPUs, some of them offline at first,
//! with two to four caches, who do whatever can be done at random (`storm.rs`), with memory that runs out now and then
//! and a listener that refuses now and then. After each the allocator is in order, and when all is given back nothing
//! is left.
//!
//! *Schedulers.* A random one, which takes any thread at each step, and PCT, which lets one thread run until it blocks
//! but for a few changes at random steps, and so finds what needs few preemptions at just the right places.
//!
//! *What shuttle does not see.* Every atomic operation is sequentially consistent here: weak memory is loom's part.
//! What a schedule did not hit it did not check.
//!
//! *Seeds.* Each run prints its seed, and begins with a fixed one. `SHUTTLE_RANDOM_SEED=n` sets another,
//! `KMEM_STORMS=n` how many storms each test raises. A storm that fails leaves its schedule in a file and names it;
//! `KMEM_REPLAY=file` makes the test that failed run that schedule and no other:
//! ```text
//! KMEM_REPLAY=.../schedule000.txt cargo test ... --features shuttle name_of_the_test -- --exact
//! ```

#[path = "../checked/mod.rs"]
mod checked;

mod runs;
mod storm;

use std::sync::Arc;

use checked::cache::EIGHT;
use checked::{Cache, Machine, engine, join, on};
use kmem_core::Population;
use kmem_core::sync::{AtomicUsize, Ordering};
use runs::{Scheduler, caught, run};
use storm::{Weather, storm, tally};

#[test]
fn storms_on_random_schedules() {
    run("random schedules", Scheduler::Random, 6_000, || storm(&Weather::any()));
    tally();
}

#[test]
fn storms_on_pct_schedules() {
    run("PCT of depth 3", Scheduler::Pct { depth: 3 }, 6_000, || storm(&Weather::any()));
    tally();
}

/// The storm of the seed: modules come and go while CPUs come and go, and magazines come with both.
#[test]
fn storms_of_modules_with_eager_magazines() {
    let weather = || Weather { population: Population::Eager, memory_fails: false, ..Weather::any() };
    run("modules, PCT of depth 5", Scheduler::Pct { depth: 5 }, 6_000, move || storm(&weather()));
}

/// The negative control: without the fence a drain and a section on its slot do not get past each other.
#[test]
fn without_the_fence_a_drain_fails() {
    caught(|| {
        run("no fence", Scheduler::Pct { depth: 3 }, 10_000, || {
            let engine = engine(Machine::new(2, &[0, 1]).without_fence(), Population::OnFirstUse);
            let cache = Cache::new(&engine, "c", EIGHT);
            let object = cache.alloc();
            cache.free(object);
            let drained = cache.clone();
            let drainer = on(&engine, 1, move || drained.shrink());
            let objects: Vec<_> = (0..4).map(|_| cache.alloc()).collect();
            join(drainer);
            let rest = cache.alloc_bulk(8);
            cache.free_bulk(&rest);
            cache.free_bulk(&objects);
            cache.end();
        });
    });
}

/// Two users free one object, if the schedule lets them: the schedule that does so does so again.
#[test]
fn a_schedule_that_failed_fails_again() {
    let doomed = || {
        let engine = engine(Machine::new(2, &[0, 1]), Population::OnFirstUse);
        let cache = Cache::new(&engine, "c", EIGHT);
        let object = Arc::new(AtomicUsize::new(cache.alloc()));
        let (theirs, other) = (object.clone(), cache.clone());
        let free = |object: &AtomicUsize, cache: &Cache| match object.load(Ordering::Relaxed) {
            0 => {}
            address => {
                object.store(0, Ordering::Relaxed);
                cache.free(address);
            }
        };
        let user = on(&engine, 1, move || free(&theirs, &other));
        free(&object, &cache);
        join(user);
        cache.end();
    };
    let (found, schedule) = caught(|| run("two users of one object", Scheduler::Random, 10_000, doomed));
    let (again, _) = caught(|| shuttle::replay_from_file(doomed, schedule.expect("a file with the schedule")));
    assert!(found.contains("does not hold"), "{found}");
    assert_eq!(found, again);
}
