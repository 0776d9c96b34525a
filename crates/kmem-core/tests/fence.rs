//! The fence between sections and whoever takes a magazine away (I36, I38), and its negative control: a platform whose
//! fence does nothing.
//!
//! Every schedule interrupts a section on CPU 0 between its reads and its commit; the interrupt is what another CPU
//! does at that moment.

mod common;

use common::{Cache, E, config, distinct, engine_of, valid};
use kmem_core::cpu::CpuSet;
use kmem_core::internals::Request;
use kmem_core::slab::FreeError;
use kmem_core::{Config, DestroyError, Population};
use kmem_sim::fake::{self, Machine};
use std::cell::RefCell;

#[derive(Clone, Copy, Debug)]
enum Section {
    Pop,
    Push,
    PopBatch,
    PushBatch,
}

#[derive(Clone, Copy, Debug)]
enum Taker {
    Shrink,
    DestroyThatIsBusy,
    CpuDown,
    Age,
}

const SECTIONS: [Section; 4] = [Section::Pop, Section::Push, Section::PopBatch, Section::PushBatch];
const TAKERS: [Taker; 4] = [Taker::Shrink, Taker::DestroyThatIsBusy, Taker::CpuDown, Taker::Age];

fn two_cpus(fences: bool) -> E {
    engine_of(Machine { fences, ..Machine::with_cpus(2) }, config(Population::OnFirstUse))
}

fn take_away(cache: &Cache, taker: Taker) {
    fake::run_on(1);
    match taker {
        Taker::Shrink => _ = cache.shrink(),
        Taker::DestroyThatIsBusy => assert!(matches!(cache.destroy(), Err(DestroyError::Busy { .. }))),
        Taker::CpuDown => cache.engine.cpu_down(0).expect("CPU 1 stays"),
        Taker::Age => {
            let _first_look = cache.engine.age(&CpuSet::new());
            assert!(cache.engine.age(&CpuSet::new()).slots > 0);
        }
    }
    fake::run_on(0);
}

/// Runs one schedule and answers whether an object was lost or handed out twice.
fn damaged(fences: bool, section: Section, taker: Taker) -> bool {
    fake::run_on(0);
    let engine = two_cpus(fences);
    let cache = Cache::new(&engine, "victim", 64);
    let mut mine = cache.bulk(20);
    cache.free_bulk(&mine.split_off(10));
    let given: Vec<usize> = match section {
        Section::Push => vec![mine[9]],
        Section::PushBatch => mine[2..].to_vec(),
        _ => Vec::new(),
    };
    let interrupt = {
        let cache = cache.clone();
        move || take_away(&cache, taker)
    };
    fake::interrupt_next_section(interrupt);
    match section {
        Section::Pop => mine.push(cache.alloc()),
        Section::PopBatch => mine.extend(cache.bulk(8)),
        Section::Push => cache.free(given[0]),
        Section::PushBatch => cache.free_bulk(&given),
    }
    mine.retain(|object| !given.contains(object));
    let lost = common::check(&engine).map(|report| report.held) != Ok(mine.len());
    // CPU 1 takes all there is, and more.
    fake::run_on(1);
    let others = cache.bulk(cache.figures().total + 1);
    let doubled = !distinct(&[mine.as_slice(), &others].concat());
    if !lost && !doubled {
        cache.free_bulk(&mine);
        cache.free_bulk(&others);
        cache.destroy().expect("nobody uses it");
        valid(&engine, 0);
    }
    lost || doubled
}

#[test]
fn without_the_fence_an_object_is_handed_out_twice() {
    fake::run_on(0);
    let engine = two_cpus(false);
    let cache = Cache::new(&engine, "victim", 64);
    let keep = cache.alloc();
    cache.fill_slot();
    let interrupt = {
        let cache = cache.clone();
        move || take_away(&cache, Taker::Shrink)
    };
    fake::interrupt_next_section(interrupt);
    let object = cache.alloc();
    fake::run_on(1);
    let others = cache.bulk(cache.figures().total - 1);
    assert_ne!(object, keep);
    assert!(others.contains(&object), "the section committed although its magazine had been taken away");
}

#[test]
fn without_the_fence_every_section_is_broken_by_every_taker() {
    for section in SECTIONS {
        for taker in TAKERS {
            assert!(
                damaged(false, section, taker),
                "{section:?} survived {taker:?} without a fence: the control controls nothing"
            );
        }
    }
}

#[test]
fn with_the_fence_nothing_is_lost_or_doubled() {
    for section in SECTIONS {
        for taker in TAKERS {
            assert!(!damaged(true, section, taker), "{section:?} was broken by {taker:?}");
        }
    }
}

/// A thread that still takes CPU 0 for its own grows the slot of CPU 0 while a section there is under way. The old
/// magazine's memory is then another cache's, so a section that commits into it hands out that cache's objects.
fn damaged_by_growth(fences: bool, section: Section) -> bool {
    fake::run_on(0);
    let engine = two_cpus(fences);
    let (cache, other) = (Cache::new(&engine, "growing", 16), Cache::new(&engine, "other", 16));
    let mut mine = cache.bulk(60);
    let spare = cache.bulk(50);
    cache.free_bulk(&spare);
    let given = mine.pop().expect("one of sixty");
    let interrupt = {
        let (cache, other) = (cache.clone(), other.clone());
        move || {
            fake::run_on(1);
            fake::believe(Some(0));
            // Underflow and overflow take turns; one growth is one fence.
            let before = cache.engine.platform().fence_count();
            let mut held = Vec::new();
            let mut rounds = 0;
            while cache.engine.platform().fence_count() == before {
                rounds += 1;
                assert!(rounds < 1_000, "it never grows");
                held.extend(cache.bulk(1));
                let half = held.split_off(held.len() / 2);
                cache.free_bulk(&half);
            }
            fake::believe(None);
            // The slot of the other cache on CPU 1 gets the piece that was given back last, which is the old magazine.
            let objects = other.bulk(200);
            other.free_bulk(&objects);
            cache.free_bulk(&held);
            fake::run_on(0);
        }
    };
    fake::interrupt_next_section(interrupt);
    match section {
        Section::Pop => mine.extend([given, cache.alloc()]),
        _ => cache.free(given),
    }
    mine.extend(cache.bulk(30));
    fake::run_on(1);
    let others = other.bulk(200);
    let doubled = !distinct(&[mine.as_slice(), &others].concat());
    if fences {
        other.free_bulk(&others);
        cache.free_bulk(&mine);
        valid(&engine, 0);
    }
    doubled
}

#[test]
fn without_the_fence_growth_hands_out_an_object_twice() {
    assert!(damaged_by_growth(false, Section::Pop));
    assert!(damaged_by_growth(false, Section::Push));
}

#[test]
fn with_the_fence_growth_loses_and_doubles_nothing() {
    assert!(!damaged_by_growth(true, Section::Pop));
    assert!(!damaged_by_growth(true, Section::Push));
}

thread_local! {
    static ON_BAD_FREE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn on_bad_free(_: usize, _: FreeError) {
    ON_BAD_FREE.take().expect("a bad free that the test made")();
}

#[test]
fn while_a_slot_is_drained_its_cpu_misses() {
    fake::run_on(0);
    let engine = engine_of(Machine::with_cpus(2), Config { bad_free: on_bad_free, ..config(Population::OnFirstUse) });
    let cache = Cache::new(&engine, "drained", 64);
    // One batch, which is in the slot as a whole, and above it something that is refused when it reaches the slabs:
    // there the drain has half of its work before it.
    let objects = cache.bulk(60);
    cache.free_bulk(&objects);
    cache.free(objects[0] + 8);
    assert_eq!(cache.figures().in_slots, 61);
    let (send, receive) = std::sync::mpsc::channel();
    let user = cache.clone();
    ON_BAD_FREE.set(Some(Box::new(move || {
        let thread = std::thread::spawn(move || {
            fake::run_on(0);
            user.alloc()
        });
        send.send(thread.join().expect("no panic")).expect("the test waits");
    })));
    cache.shrink();
    let object = receive.recv().expect("it was refused");
    assert!(!objects.contains(&object), "it was taken from a slot that is private to the drain");
    valid(&engine, 1);
}

/// A thread that stops a CPU asks there for a proxy, and no thread reports: what became of that request must not be
/// the report on the next one.
#[test]
fn each_stop_of_a_cpu_without_a_proxy_is_fenced() {
    fake::run_on(0);
    let engine = engine_of(Machine { patience: 3, ..Machine::with_cpus(2) }, config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "stopped", 64);
    for round in 1..=3 {
        cache.fill_slot();
        let interrupt = {
            let cache = cache.clone();
            move || take_away(&cache, Taker::Shrink)
        };
        fake::interrupt_next_section(interrupt);
        let mine = cache.alloc();
        assert_eq!(engine.platform().fence_count(), round, "there is no proxy that could spare it");
        fake::run_on(1);
        let others = cache.bulk(cache.figures().total);
        assert!(!others.contains(&mine), "stop {round}: a section committed into a magazine that was taken away");
        cache.free_bulk(&others);
        cache.free(mine);
        fake::run_on(0);
    }
    valid(&engine, 0);
}

#[test]
fn a_section_that_was_interrupted_takes_effect_once() {
    fake::run_on(0);
    let engine = two_cpus(true);
    let cache = Cache::new(&engine, "nested", 64);
    cache.fill_slot();
    // The interrupt uses the same slot: the outer section begins anew and sees what the inner one did.
    let inner = cache.clone();
    let (send, receive) = std::sync::mpsc::channel();
    fake::interrupt_next_section(move || send.send(inner.bulk(5)).expect("the test waits"));
    let outer = cache.alloc();
    let mut all = receive.recv().expect("the interrupt ran");
    all.push(outer);
    assert!(distinct(&all));
    valid(&engine, 6);
    fake::interrupt_next_section({
        let (cache, object) = (cache.clone(), all[0]);
        move || cache.free(object)
    });
    cache.free(all[1]);
    cache.free_bulk(&all[2..]);
    valid(&engine, 0);
}

/// A proxy looks, and while it makes sure that it is on its CPU somebody fences that from afar, and stops it again.
#[test]
fn a_report_that_comes_too_late_changes_nothing() {
    let request = Request::new();
    request.ask();
    request.report(|| {
        request.settle();
        request.ask();
        true
    });
    assert!(!request.is_reported(), "that was the request before");
    request.report(|| false);
    assert!(!request.is_reported(), "it was not on the CPU");
    request.report(|| true);
    assert!(request.is_reported());
    request.report(|| panic!("no thread asks"));
}
