//! Locks: one total order that is asserted, one thread at a time, and the gate (I29, I30, I40).

mod common;

use common::ends;
use kmem_core::cpu::CpuSet;
use kmem_core::internals::{Gate, Guard, InsideCallback, Mutex, ReadGuard, WriteGuard};
use kmem_core::platform::Park;
use kmem_core::sync::Rank;
use kmem_sim::fake::{Fake, Machine};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const RANKS: [Rank; 9] =
    [Rank::Gate, Rank::Registry, Rank::Life, Rank::Cpu, Rank::Depot, Rank::Node, Rank::Pages, Rank::Meta, Rank::Stats];

/// Guards stay on the thread that took the lock (I30). Were one of them `Send`, both implementations would be meant,
/// and this would not compile.
const _: () = {
    trait Stays<Why> {
        const STAYS: () = ();
    }
    impl<T: ?Sized> Stays<()> for T {}
    impl<T: ?Sized + Send> Stays<bool> for T {}
    let () = <ReadGuard<'_, Fake> as Stays<_>>::STAYS;
    let () = <WriteGuard<'_, Fake> as Stays<_>>::STAYS;
    let () = <Guard<'_, (), Fake> as Stays<_>>::STAYS;
};

fn platform() -> Fake {
    Fake::new(Machine { granules: 1, ..Machine::with_cpus(1) })
}

fn free_of_locks(platform: &Fake) -> bool {
    platform.held_ranks().is_some_and(|held| held.is_empty())
}

#[test]
fn the_order_is_gate_registry_life_cpu_depot_node_pages_meta_stats() {
    assert!(RANKS.is_sorted());
    let platform = platform();
    let locks = RANKS.map(|rank| Mutex::new(rank, ()));
    let guards: Vec<_> = locks.iter().map(|lock| lock.lock(&platform)).collect();
    // Release builds do not keep count.
    assert_eq!(free_of_locks(&platform), !cfg!(debug_assertions));
    drop(guards);
    assert!(free_of_locks(&platform));
}

#[test]
fn a_lock_is_held_by_one_thread_at_a_time() {
    let platform = Arc::new(platform());
    let lock = Arc::new(Mutex::new(Rank::Node, 0u64));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (platform, lock) = (platform.clone(), lock.clone());
            std::thread::spawn(move || {
                for round in 0..20_000 {
                    match lock.try_lock(&*platform) {
                        Some(mut guard) if round % 2 == 0 => *guard += 1,
                        other => {
                            drop(other);
                            *lock.lock(&*platform) += 1;
                        }
                    }
                }
                free_of_locks(&platform)
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    assert_eq!(*lock.lock(&*platform), 80_000);
}

#[test]
fn the_gate_lets_readers_together_and_writers_alone() {
    let (platform, gate) = (platform(), Gate::new());
    {
        let _read = gate.read(&platform).expect("outside of callbacks");
        assert!(!gate.is_writer(&platform));
    }
    {
        let write = gate.write(&platform).expect("outside of callbacks");
        assert!(gate.is_writer(&platform));
        // The gate is not recursive (I30).
        assert!(matches!(gate.read(&platform), Err(InsideCallback)));
        assert!(matches!(gate.write(&platform), Err(InsideCallback)));
        drop(write);
    }
    assert!(!gate.is_writer(&platform));
    assert!(free_of_locks(&platform));
    assert!(gate.try_write(&platform).is_some());
}

#[test]
fn the_gate_excludes_across_threads_and_nobody_starves() {
    let (platform, gate) = (Arc::new(platform()), Arc::new(Gate::new()));
    let (inside, writing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = (0..4)
        .map(|me| {
            let (platform, gate, inside, writing) = (platform.clone(), gate.clone(), inside.clone(), writing.clone());
            std::thread::spawn(move || {
                for _ in 0..3_000 {
                    if me == 0 {
                        let _write = gate.write(&*platform).expect("no callback");
                        assert!(!writing.swap(true, Ordering::SeqCst) && inside.load(Ordering::SeqCst) == 0);
                        writing.store(false, Ordering::SeqCst);
                    } else {
                        let _read = gate.read(&*platform).expect("no callback");
                        inside.fetch_add(1, Ordering::SeqCst);
                        assert!(!writing.load(Ordering::SeqCst));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    ends(move || threads.into_iter().for_each(|thread| thread.join().expect("no panic")));
}

/// However many places for readers the gate has.
#[test]
fn the_gate_has_room_for_any_number_of_readers() {
    let (platform, gate) = (Arc::new(platform()), Arc::new(Gate::new()));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (platform, gate) = (platform.clone(), gate.clone());
            std::thread::spawn(move || {
                let read = gate.read(&*platform).expect("no callback");
                std::thread::sleep(std::time::Duration::from_millis(5));
                drop(read);
            })
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(2));
    drop(gate.write(&*platform).expect("no callback"));
    ends(move || threads.into_iter().for_each(|thread| thread.join().expect("no panic")));
    assert!(gate.try_write(&*platform).is_some());
}

#[test]
fn a_writer_does_not_pass_a_reader() {
    let (platform, gate) = (Arc::new(platform()), Arc::new(Gate::new()));
    let read = gate.read(&*platform).expect("outside of callbacks");
    let writer = {
        let (platform, gate) = (platform.clone(), gate.clone());
        std::thread::spawn(move || {
            assert!(gate.try_write(&*platform).is_none(), "it would have to wait");
            drop(gate.write(&*platform).expect("no callback"));
        })
    };
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!writer.is_finished());
    drop(read);
    ends(move || writer.join().expect("no panic"));
}

#[test]
fn sets_of_cpus_are_sets() {
    let mut set = CpuSet::new();
    assert!(set.is_empty() && !set.contains(0));
    for cpu in [0, 1023, 1024, usize::MAX, 64, 0] {
        set.insert(cpu);
    }
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 1023]);
    set.remove(64);
    set.remove(5000);
    assert_eq!((set.len(), set), (2, [1023, 0].into_iter().collect()));
    assert_eq!(CpuSet::first(1024).len(), 1024);
}

/// Debug builds assert the order.
#[cfg(debug_assertions)]
mod asserted {
    use super::*;
    use common::{Cache, config, engine_of, panics};
    use kmem_core::slab::FreeError;
    use kmem_core::{Config, Population};
    use std::cell::RefCell;

    #[test]
    #[should_panic(expected = "lock order")]
    fn a_lower_rank_after_a_higher_one_is_an_assertion() {
        let platform = platform();
        let (node, registry) = (Mutex::new(Rank::Node, ()), Mutex::new(Rank::Registry, ()));
        let _node = node.lock(&platform);
        let _registry = registry.lock(&platform);
    }

    #[test]
    #[should_panic(expected = "lock order")]
    fn the_same_rank_twice_is_an_assertion() {
        let platform = platform();
        let (one, two) = (Mutex::new(Rank::Cpu, ()), Mutex::new(Rank::Cpu, ()));
        let _one = one.lock(&platform);
        let _two = two.lock(&platform);
    }

    #[test]
    fn every_wrong_pair_is_an_assertion_and_every_right_one_is_not() {
        let platform = platform();
        for (first, outer) in RANKS.iter().enumerate() {
            for (second, inner) in RANKS.iter().enumerate() {
                let (one, two) = (Mutex::new(*outer, ()), Mutex::new(*inner, ()));
                let take = || {
                    let _one = one.lock(&platform);
                    let _two = two.lock(&platform);
                };
                let try_take = || {
                    let _one = one.lock(&platform);
                    let _two = two.try_lock(&platform);
                };
                let take_next = || {
                    let _one = one.lock(&platform);
                    let _two = two.lock_next(&platform);
                };
                assert_eq!(quietly(take), second <= first, "{outer:?} then {inner:?}");
                assert_eq!(quietly(try_take), second <= first, "{outer:?} then {inner:?}");
                // A whole rank in ascending order says so by its own call.
                assert_eq!(quietly(take_next), second < first, "{outer:?} then {inner:?}");
                assert!(free_of_locks(&platform), "a panic gives back what was held");
            }
        }
    }

    /// Whether `code` panics, without its message.
    fn quietly(code: impl Fn()) -> bool {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let panicked = panics(code);
        std::panic::set_hook(hook);
        panicked
    }

    #[test]
    #[should_panic(expected = "lock order")]
    fn a_reader_that_comes_back_is_an_assertion() {
        let (platform, gate) = (platform(), Gate::new());
        let _outer = gate.read(&platform);
        let _inner = gate.read(&platform);
    }

    #[test]
    #[should_panic(expected = "lock order")]
    fn the_gate_after_a_lock_is_an_assertion() {
        let (platform, gate, depot) = (platform(), Gate::new(), Mutex::new(Rank::Depot, ()));
        let _depot = depot.lock(&platform);
        let _read = gate.read(&platform);
    }

    thread_local! {
        static COME_BACK: RefCell<Option<Cache>> = const { RefCell::new(None) };
    }

    fn come_back(_: usize, _: FreeError) {
        let cache = COME_BACK.take().expect("the test's cache");
        cache.engine.cache_count();
    }

    #[test]
    #[should_panic(expected = "lock order")]
    fn a_bad_free_handler_that_comes_back_is_an_assertion() {
        let engine = engine_of(Machine::with_cpus(1), Config { bad_free: come_back, ..config(Population::OnFirstUse) });
        let cache = Cache::new(&engine, "wronged", 64);
        let object = cache.alloc();
        cache.free(object);
        cache.free(object);
        COME_BACK.set(Some(cache.clone()));
        cache.shrink();
    }
}
