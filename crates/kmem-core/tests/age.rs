//! Ageing: what was not used for a period goes back, without any traffic; what is in use stays; who is disturbed.

mod common;

use common::{Cache, E, Footprint, config, ends, engine, engine_of, listen, valid};
use kmem_core::cpu::{CpuSet, CpuState};
use kmem_core::{HotplugError, Population};
use kmem_sim::fake::{self, Machine};

fn period(engine: &E) -> usize {
    engine.age(&CpuSet::new()).slots
}

/// Leaves objects in the slots of CPUs 0 to `cpus`.
fn cached(engine: &E, name: &str, cpus: usize) -> Cache {
    let cache = Cache::new(engine, name, 64);
    for cpu in 0..cpus {
        fake::run_on(cpu);
        cache.fill_slot();
    }
    fake::run_on(0);
    cache
}

#[test]
fn a_slot_that_nobody_used_for_a_period_is_emptied_and_its_magazine_goes_back() {
    let engine = engine(4);
    let cache = Cache::new(&engine, "still", 64);
    cache.shrink();
    let before = Footprint::of(&engine).meta_used;
    for cpu in 0..4 {
        fake::run_on(cpu);
        cache.fill_slot();
    }
    let cached = cache.figures();
    assert!(cached.in_slots > 0 && cached.cpus == 4);
    assert_eq!(period(&engine), 0, "the first look knows nothing yet");
    assert_eq!(period(&engine), 4);
    let aged = cache.figures();
    assert_eq!((aged.in_slots, aged.cpus), (0, 0));
    assert_eq!(aged.total, cached.total, "nothing is lost");
    assert_eq!(aged.in_depot + aged.free, aged.total);
    assert_eq!(engine.age(&CpuSet::new()), Default::default(), "nothing is left to do");
    cache.shrink();
    assert_eq!(Footprint::of(&engine).meta_used, before);
    valid(&engine, 0);
}

#[test]
fn a_slot_in_use_stays_and_one_that_is_used_again_comes_back() {
    let engine = engine(2);
    let cache = cached(&engine, "used", 2);
    let mut held = Vec::new();
    for _ in 0..5 {
        fake::run_on(0);
        held.push(cache.alloc());
        let aged = engine.age(&CpuSet::new());
        assert!(aged.left);
    }
    let figures = cache.figures();
    assert_eq!(figures.cpus, 1, "CPU 0 is in use, CPU 1 is not");
    assert!(figures.in_slots > 0);
    fake::run_on(1);
    cache.fill_slot();
    assert_eq!(cache.figures().cpus, 2);
    held.iter().for_each(|object| cache.free(*object));
    valid(&engine, 0);
}

#[test]
fn a_slot_in_use_beside_one_that_is_still_stays() {
    let engine = engine(2);
    let (used, still) = (cached(&engine, "used", 2), cached(&engine, "still", 2));
    assert_eq!(period(&engine), 0);
    let held = used.alloc();
    // Both CPUs are stopped, for both caches; one of the four slots was used in the period.
    assert_eq!(period(&engine), 3);
    assert_eq!((used.figures().cpus, still.figures().cpus), (1, 0));
    assert_eq!(period(&engine), 1, "now it is still too");
    used.free(held);
    valid(&engine, 0);
}

#[test]
fn all_slots_of_all_cpus_age_with_one_fence_and_an_idle_cpu_is_stopped_once() {
    let engine = engine(4);
    let caches: Vec<_> = (0..20).map(|n| cached(&engine, &format!("cache {n}"), 4)).collect();
    assert_eq!(period(&engine), 0);
    let before = engine.platform().fence_count();
    assert_eq!(period(&engine), 80);
    assert_eq!(engine.platform().fence_count(), before + 1);
    for _ in 0..5 {
        assert_eq!(period(&engine), 0);
    }
    assert_eq!(engine.platform().fence_count(), before + 1, "an idle CPU is left in peace");
    assert!(caches.iter().all(|cache| cache.figures().in_slots == 0));
    valid(&engine, 0);
}

#[test]
fn more_caches_than_one_fence_covers() {
    let engine = engine(2);
    let caches: Vec<_> = (0..70).map(|n| cached(&engine, &format!("cache {n}"), 2)).collect();
    assert_eq!(period(&engine), 0);
    assert_eq!(period(&engine), 140);
    assert!(caches.iter().all(|cache| cache.figures().cpus == 0));
    valid(&engine, 0);
}

#[test]
fn a_cpu_that_must_not_be_disturbed_is_not() {
    let engine = engine(3);
    let cache = cached(&engine, "isolated", 3);
    let spare = CpuSet::of(1);
    let _first_look = engine.age(&spare);
    let aged = engine.age(&spare);
    assert_eq!(aged.slots, 2);
    assert!(aged.left, "CPU 1 keeps what it has");
    assert_eq!(cache.figures().cpus, 1);
    assert!(cache.figures().in_slots > 0);
    let before = engine.platform().fence_count();
    assert_eq!(engine.age(&spare).slots, 0);
    assert_eq!(engine.platform().fence_count(), before);
    valid(&engine, 0);
}

#[test]
fn a_slot_that_moved_after_the_look_is_left_alone() {
    let engine = engine(2);
    let cache = cached(&engine, "moved", 1);
    assert_eq!(period(&engine), 0);
    // While the ager waits for its fence a section of CPU 0, which began before, commits.
    let (engine2, user) = (engine.clone(), cache.clone());
    let (in_section, wait) = std::sync::mpsc::channel();
    let (go, may_commit) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        fake::run_on(0);
        fake::interrupt_next_section(move || {
            in_section.send(()).expect("the test waits");
            may_commit.recv().expect("the ager fences");
        });
        user.alloc()
    });
    wait.recv().expect("the section has read");
    let committed = std::sync::Arc::new(std::sync::Mutex::new(Some(thread)));
    let (joined, object) = std::sync::mpsc::channel();
    engine.platform().at_next_fence(move || {
        go.send(()).expect("the section waits");
        let thread = committed.lock().expect("taken once").take().expect("taken once");
        joined.send(thread.join().expect("an object")).expect("the test waits");
    });
    fake::run_on(1);
    assert_eq!(period(&engine2), 0, "it is in use");
    assert_eq!(cache.figures().cpus, 1);
    cache.free(object.recv().expect("an object"));
    valid(&engine, 0);
}

#[test]
fn a_slot_that_is_emptied_on_the_spot_is_fenced_first() {
    let engine = engine(2);
    let cache = cached(&engine, "here", 2);
    fake::run_on(1);
    assert_eq!(engine.age_here().slots, 0, "the first look knows no before");
    let before = engine.platform().fence_count();
    assert_eq!(engine.age_here().slots, 1, "the slot of CPU 1, and not that of CPU 0");
    assert_eq!(engine.platform().fence_count(), before + 1);
    assert_eq!(cache.figures().cpus, 1);
    valid(&engine, 0);
}

#[test]
fn a_destroy_finds_all_that_ageing_moved() {
    let engine = engine(3);
    let cache = cached(&engine, "dying", 3);
    assert_eq!(period(&engine), 0);
    assert_eq!(period(&engine), 3);
    cache.destroy().expect("nobody holds an object (I16)");
    valid(&engine, 0);
}

#[test]
fn nothing_ages_while_a_transition_runs_or_in_a_callback() {
    let engine = engine(2);
    let cache = cached(&engine, "callback", 2);
    assert_eq!(period(&engine), 0);
    let weak = std::sync::Arc::downgrade(&engine);
    listen(&engine, move |_, cpu| {
        let engine = weak.upgrade().expect("the engine calls");
        assert_eq!(engine.age(&CpuSet::new()).slots, 0);
        assert!(!engine.try_cpu_left(cpu));
        assert_eq!(engine.cpu_came(cpu), Err(HotplugError::InsideCallback));
        let engine2 = engine.clone();
        assert_eq!(ends(move || engine2.age(&CpuSet::new()).slots), 0, "it waits for nobody");
        Ok(())
    });
    engine.cpu_down(1).expect("CPU 0 stays");
    assert_eq!(cache.figures().cpus, 1);
    valid(&engine, 0);
}

#[test]
fn a_cpu_that_left_comes_by_itself_and_one_that_is_held_down_does_not() {
    let engine = engine(3);
    let cache = cached(&engine, "left", 3);
    assert!(engine.try_cpu_left(1));
    assert!(!engine.try_cpu_left(1), "it is down");
    assert!(!engine.try_cpu_left(7));
    let stats = engine.cpu_stats(1).expect("CPU 1 exists");
    assert_eq!((stats.state, stats.has_area, stats.held_down), (CpuState::Offline, false, false));
    engine.cpu_came(1).expect("it is not held down");
    assert_eq!(engine.cpu_came(1), Err(HotplugError::AlreadyOnline { cpu: 1 }));
    engine.cpu_down(2).expect("others stay");
    assert_eq!(engine.cpu_came(2), Err(HotplugError::HeldDown { cpu: 2 }));
    assert!(!engine.online_cpus().contains(2));
    let mut slots = 0;
    engine.for_each_slot(|_, cpu, objects| {
        assert_eq!(cpu, 0);
        assert!(objects > 0);
        slots += 1;
    });
    assert_eq!(slots, 1);
    listen(&engine, |_, _| Ok(()));
    assert!(!engine.try_cpu_left(1), "no foreign code runs inside an allocation");
    engine.cpu_left(1).expect("the listener agrees");
    assert_eq!(cache.figures().cpus, 1);
    valid(&engine, 0);
}

#[test]
fn cpus_are_emptied_by_name_and_depots_too() {
    let engine = engine(4);
    let cache = cached(&engine, "surplus", 4);
    let mut held = Vec::new();
    let aged = engine.drain_cpus(&[1, 3].into_iter().collect());
    assert_eq!((aged.slots, aged.left), (2, true));
    assert_eq!(cache.figures().cpus, 2);
    assert_eq!(engine.cached_on(1), Default::default());
    let on_0 = engine.cached_on(0);
    assert!(on_0.objects > 0 && on_0.bytes == on_0.objects * 64);
    let (in_slots, in_depots) = engine.cached_bytes();
    assert_eq!((in_slots, in_depots), (cache.figures().in_slots * 64, cache.figures().in_depot * 64));
    assert!(in_depots > 0);
    held.push(cache.alloc());
    engine.reap_depots();
    assert_eq!(cache.figures().in_depot, 0);
    cache.free(held[0]);
    assert!(engine.relieve(&CpuSet::new()) > 0);
    assert_eq!(engine.cached_bytes(), (0, 0));
    assert_eq!(engine.page_stats().dirty, 0);
    valid(&engine, 0);
}

#[test]
fn a_thread_that_is_not_there_any_more_does_not_bring_a_cpu_up() {
    for (hint_is_checked, comes_up) in [(true, false), (false, true)] {
        let engine = engine_of(Machine { hint_is_checked, ..Machine::with_cpus(2) }, config(Population::OnFirstUse));
        let cache = cached(&engine, "stale hint", 2);
        engine.cpu_left(1).expect("CPU 0 stays");
        assert_eq!(engine.drain_cpus(&CpuSet::of(0)).slots, 1, "so that the next one misses");
        fake::believe(Some(1));
        let object = cache.alloc();
        assert_eq!(engine.online_cpus().contains(1), comes_up);
        cache.free(object);
        fake::believe(None);
        valid(&engine, 0);
    }
}

#[test]
fn pressure_spares_the_cpus_that_must_not_be_disturbed() {
    let engine = engine(3);
    let cache = cached(&engine, "isolated", 3);
    let before = engine.cached_on(1);
    assert!(before.objects > 0);
    engine.relieve(&CpuSet::of(1));
    assert_eq!((engine.cached_on(0).objects, engine.cached_on(1), engine.cached_on(2).objects), (0, before, 0));
    assert_eq!(cache.figures().in_depot, 0);
    valid(&engine, 0);
}
