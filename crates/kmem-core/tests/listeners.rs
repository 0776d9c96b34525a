//! Listeners of transitions: who hears what, who may refuse, and what a callback may do (I25, I28, I30, I33).

mod common;

use common::{Cache, E, eager, ends, engine, listen, panic_now, panics, spec, valid};
use kmem_core::cpu::{CpuSet, Event, Refused};
use kmem_core::validate::Violation;
use kmem_core::{CreateError, DestroyError, HotplugError, SubscribeError};
use kmem_sim::fake;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Heard = Arc<Mutex<Vec<(usize, Event)>>>;

const NOBODY: usize = usize::MAX;

/// Four listeners; the one with the number in the answer refuses what it may.
fn four(engine: &E) -> (Heard, Arc<AtomicUsize>) {
    let (heard, refuses) = (Heard::default(), Arc::new(AtomicUsize::new(NOBODY)));
    for me in 0..4 {
        let (heard, refuses) = (heard.clone(), refuses.clone());
        listen(engine, move |event, cpu| {
            assert_eq!(cpu, 1);
            heard.lock().expect("no panic").push((me, event));
            let may = !matches!(event, Event::Online);
            if may && refuses.load(Ordering::Relaxed) == me { Err(Refused) } else { Ok(()) }
        });
    }
    (heard, refuses)
}

fn all(event: Event) -> impl Iterator<Item = (usize, Event)> {
    (0..4).map(move |me| (me, event))
}

fn taken(heard: &Heard) -> Vec<(usize, Event)> {
    std::mem::take(&mut heard.lock().expect("no panic"))
}

#[test]
fn all_hear_all_in_order() {
    let engine = engine(2);
    let (heard, _) = four(&engine);
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.cpu_up(1).expect("it is down");
    let events = [Event::DownPrepare, Event::Dead, Event::UpPrepare, Event::Online];
    assert_eq!(taken(&heard), events.into_iter().flat_map(all).collect::<Vec<_>>());
}

/// A refusal at each position: all are asked (I28), and those that granted hear of the undoing, the last one first.
fn refusals(refusable: Event, undo: Event, transition: impl Fn(&E) -> Result<(), HotplugError>, prepare: impl Fn(&E)) {
    for engine in [engine(2), eager(2)] {
        prepare(&engine);
        let before = engine.online_cpus();
        let (heard, refuses) = four(&engine);
        for me in 0..4 {
            refuses.store(me, Ordering::Relaxed);
            assert_eq!(transition(&engine), Err(HotplugError::Refused { cpu: 1 }));
            let undone = (0..4).rev().filter(|other| *other != me).map(|other| (other, undo));
            assert_eq!(taken(&heard), all(refusable).chain(undone).collect::<Vec<_>>(), "{me} refuses");
            assert_eq!(engine.online_cpus(), before);
            valid(&engine, 0);
        }
        refuses.store(NOBODY, Ordering::Relaxed);
        transition(&engine).expect("nobody refuses");
    }
}

#[test]
fn a_refused_up_is_canceled_for_those_that_granted() {
    let down = |engine: &E| engine.cpu_down(1).expect("CPU 0 stays");
    refusals(Event::UpPrepare, Event::UpCanceled, |engine| engine.cpu_up(1), down);
}

#[test]
fn a_refused_down_has_failed_for_those_that_granted() {
    refusals(Event::DownPrepare, Event::DownFailed, |engine| engine.cpu_down(1), |_| ());
}

#[test]
fn a_down_that_failed_leaves_the_slots_as_they_were() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "stays", 64);
    fake::run_on(1);
    cache.fill_slot();
    let (_, refuses) = four(&engine);
    refuses.store(2, Ordering::Relaxed);
    let before = cache.figures();
    assert_eq!(engine.cpu_down(1), Err(HotplugError::Refused { cpu: 1 }));
    assert_eq!(engine.cpu_left(1), Err(HotplugError::Refused { cpu: 1 }));
    assert_eq!(cache.figures(), before, "I25");
    assert!(before.in_slots > 0);
    // Not a single miss: the area is still published.
    let depot = before.in_depot;
    let objects = cache.bulk(before.in_slots);
    assert_eq!((cache.figures().in_slots, cache.figures().in_depot), (0, depot));
    cache.free_bulk(&objects);
    valid(&engine, 0);
}

#[test]
fn what_has_happened_cannot_be_refused() {
    let engine = engine(2);
    listen(&engine, |event, _| if matches!(event, Event::Online | Event::Dead) { Err(Refused) } else { Ok(()) });
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.cpu_up(1).expect("it is down");
    assert_eq!(engine.online_cpus(), CpuSet::first(2));
}

#[test]
fn no_listener_is_called_inside_an_allocation() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "unannounced", 64);
    let (heard, _) = four(&engine);
    engine.cpu_left(1).expect("CPU 0 stays");
    taken(&heard);
    // A thread on a CPU that left brings it up by itself, but not past listeners, whose code may be anything: the depot
    // serves.
    fake::run_on(1);
    let objects = cache.bulk(50);
    cache.free_bulk(&objects);
    assert!(!engine.online_cpus().contains(1) && taken(&heard).is_empty());
    engine.cpu_up(1).expect("by name it comes");
    assert_eq!(taken(&heard), all(Event::UpPrepare).chain(all(Event::Online)).collect::<Vec<_>>());
    valid(&engine, 0);
}

#[test]
fn sixteen_listeners_and_no_more() {
    let engine = engine(2);
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..16 {
        let count = count.clone();
        listen(&engine, move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    }
    struct Deaf;
    impl kmem_core::cpu::Listener for Deaf {
        fn event(&self, _: Event, _: usize) -> Result<(), Refused> {
            Ok(())
        }
    }
    assert_eq!(engine.subscribe(&Deaf), Err(SubscribeError::TooMany { max: 16 }));
    engine.cpu_down(1).expect("CPU 0 stays");
    assert_eq!(count.load(Ordering::Relaxed), 32);
}

/// Runs `code` in every callback of a down, an up, a refused down and a refused up.
fn in_every_callback(engine: &E, code: impl Fn(&E, Event) + Send + Sync + 'static) {
    let refuse = Arc::new(AtomicUsize::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    listen(engine, {
        let (engine, calls) = (Arc::downgrade(engine), calls.clone());
        move |event, _| {
            code(&engine.upgrade().expect("the engine that calls"), event);
            calls.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    listen(engine, {
        let refuse = refuse.clone();
        move |_, _| if refuse.load(Ordering::Relaxed) == 1 { Err(Refused) } else { Ok(()) }
    });
    let engine = engine.clone();
    ends(move || {
        fake::run_on(0);
        refuse.store(1, Ordering::Relaxed);
        engine.cpu_down(1).expect_err("refused");
        refuse.store(0, Ordering::Relaxed);
        engine.cpu_down(1).expect("CPU 0 stays");
        refuse.store(1, Ordering::Relaxed);
        engine.cpu_up(1).expect_err("refused");
        refuse.store(0, Ordering::Relaxed);
        engine.cpu_up(1).expect("it is down");
        assert_eq!(calls.load(Ordering::Relaxed), 8);
    });
}

#[test]
fn what_needs_the_gate_is_refused_in_a_callback_and_never_hangs() {
    let engine = engine(3);
    let cache = Cache::new(&engine, "outside", 64);
    cache.fill_slot();
    let id = cache.id;
    in_every_callback(&engine, move |engine, _| {
        assert_eq!(engine.create(&spec("inside", 64)), Err(CreateError::InsideCallback));
        // SAFETY: refused.
        assert_eq!(unsafe { engine.destroy(id) }, Err(DestroyError::InsideCallback));
        assert_eq!(engine.shrink(id), Err(DestroyError::InsideCallback));
        assert_eq!(engine.trim(), Err(DestroyError::InsideCallback));
        assert_eq!(engine.cpu_up(2), Err(HotplugError::InsideCallback));
        assert_eq!(engine.cpu_down(2), Err(HotplugError::InsideCallback));
        assert_eq!(engine.cpu_left(0), Err(HotplugError::InsideCallback));
        assert_eq!(common::check(engine), Err(Violation::InsideCallback));
        struct Deaf;
        impl kmem_core::cpu::Listener for Deaf {
            fn event(&self, _: Event, _: usize) -> Result<(), Refused> {
                Ok(())
            }
        }
        assert_eq!(engine.subscribe(&Deaf), Err(SubscribeError::InsideCallback));
    });
    assert_eq!(engine.online_cpus(), CpuSet::first(3));
    valid(&engine, 0);
}

#[test]
fn callbacks_may_allocate_free_and_look() {
    for engine in [engine(2), eager(2)] {
        let cache = Cache::new(&engine, "used inside", 2000);
        let inside = cache.clone();
        let held = Mutex::new(Vec::new());
        in_every_callback(&engine, move |engine, _| {
            let mut held = held.lock().expect("no panic");
            for cpu in [0, 1, 0] {
                fake::run_on(cpu);
                // Enough that slabs become empty and go back.
                let objects = inside.bulk(1000);
                held.extend(inside.bulk(3));
                inside.free_bulk(&objects);
                let large = engine.alloc_bytes(100_000, 16).expect("memory").address;
                let small = engine.alloc_bytes(100, 16).expect("memory").address;
                // SAFETY: the memory is ours.
                unsafe {
                    engine.free_bytes(large);
                    engine.free_bytes(small);
                }
            }
            engine.for_each_cache(|stats| assert!(stats.live <= stats.total));
            let rest = held.split_off(4);
            inside.free_bulk(&rest);
        });
        let live = cache.figures().live;
        valid(&engine, live);
    }
}

#[test]
fn a_callback_that_panics_leaves_the_cpu_where_it_was_or_where_it_went() {
    for engine in [engine(2), eager(2)] {
        let cache = Cache::new(&engine, "survivor", 64);
        fake::run_on(1);
        cache.fill_slot();
        let panic_at = Arc::new(Mutex::new(None));
        let (heard, _) = four(&engine);
        listen(&engine, {
            let panic_at = panic_at.clone();
            move |event, _| {
                let panic = *panic_at.lock().expect("no panic") == Some(event);
                if panic { panic_now() } else { Ok(()) }
            }
        });
        for (event, online_after) in
            [(Event::DownPrepare, true), (Event::Dead, false), (Event::UpPrepare, false), (Event::Online, true)]
        {
            *panic_at.lock().expect("no panic") = Some(event);
            let up = matches!(event, Event::UpPrepare | Event::Online);
            assert!(panics(|| _ = if up { engine.cpu_up(1) } else { engine.cpu_down(1) }), "{event:?}");
            *panic_at.lock().expect("no panic") = None;
            assert_eq!(engine.online_cpus().contains(1), online_after, "{event:?}");
            valid(&engine, 0);
            // Either way it can go on.
            if online_after {
                engine.cpu_down(1).expect("CPU 0 stays");
                engine.cpu_up(1).expect("it is down");
            } else {
                engine.cpu_up(1).expect("it is down");
                engine.cpu_down(1).expect("CPU 0 stays");
            }
            if event == Event::DownPrepare {
                taken(&heard);
            }
        }
        fake::run_on(1);
        cache.free_bulk(&cache.bulk(200));
        valid(&engine, 0);
    }
}

#[test]
fn the_gate_of_a_callback_keeps_other_threads_waiting_not_failing() {
    let engine = engine(2);
    let started = Arc::new(Mutex::new(None));
    listen(&engine, {
        let (engine, started) = (Arc::downgrade(&engine), started.clone());
        move |event, _| {
            if event == Event::DownPrepare {
                let engine = engine.upgrade().expect("the engine that calls");
                let thread = std::thread::spawn(move || engine.create(&spec("waits", 64)));
                std::thread::sleep(std::time::Duration::from_millis(10));
                assert!(!thread.is_finished());
                *started.lock().expect("no panic") = Some(thread);
            }
            Ok(())
        }
    });
    engine.cpu_down(1).expect("CPU 0 stays");
    let thread = started.lock().expect("no panic").take().expect("it was started");
    thread.join().expect("no panic").expect("it only waited");
}
