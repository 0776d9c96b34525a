//! What fork handlers do: every lock is taken in order, given back in the parent, and the child does not wait for
//! threads that it does not have.

mod common;

use common::{Cache, E, config, eager, ends, engine, engine_of, holds_no_lock, listen, spec, valid};
use kmem_core::internals::Forker;
use kmem_core::platform::Park;
use kmem_core::slab::FreeError;
use kmem_core::sync::{Waiters, Why, Word};
use kmem_core::{Config, Population};
use kmem_sim::fake::{self, Machine};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

/// Uses every lock there is.
fn use_everything(engine: &E) {
    let cache = Cache::new(engine, "after", 64);
    for cpu in [0, 1] {
        fake::run_on(cpu);
        cache.free_bulk(&cache.bulk(300));
    }
    engine.cpu_down(1).expect("CPU 0 stays");
    engine.cpu_up(1).expect("it is down");
    cache.shrink();
    cache.destroy().expect("nobody uses it");
    let large = engine.alloc_bytes(1 << 20, 16).expect("memory").address;
    // SAFETY: the memory is ours.
    unsafe { engine.free_bytes(large) };
    listen(engine, |_, _| Ok(()));
    engine.trim().expect("not in a callback");
    fake::run_on(0);
}

fn in_parent(engine: &E) {
    // SAFETY: `before_fork` was called by this thread.
    assert!(unsafe { engine.after_fork() });
}

fn in_child(engine: &E) {
    // SAFETY: as above; the other threads of the test are as good as gone.
    unsafe {
        engine.inherit();
        engine.after_fork();
    }
}

#[test]
fn after_a_fork_every_lock_is_free() {
    for engine in [engine(2), eager(2)] {
        for after in [in_parent, in_child] {
            let user = engine.clone();
            ends(move || {
                let cache = Cache::new(&user, "used", 64);
                let objects = cache.bulk(500);
                user.before_fork();
                after(&user);
                cache.free_bulk(&objects);
                cache.destroy().expect("nobody uses it");
                use_everything(&user);
                valid(&user, 0);
            });
        }
    }
}

#[test]
fn between_the_handlers_others_wait() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "stock", 64);
    cache.free_bulk(&cache.bulk(100));
    engine.before_fork();
    let waiting: Vec<_> = [
        (|engine| _ = engine.create(&spec("waits", 64)).expect("a name of its own")) as fn(&E),
        |engine| engine.cpu_down(1).expect("CPU 0 stays"),
        |engine| _ = engine.cache_count(),
        |engine| _ = engine.page_stats(),
        |engine| _ = engine.meta_used(),
    ]
    .into_iter()
    .map(|work| {
        let engine = engine.clone();
        std::thread::spawn(move || work(&engine))
    })
    .collect();
    std::thread::sleep(Duration::from_millis(20));
    assert!(waiting.iter().all(|thread| !thread.is_finished()));
    // Sections take no lock.
    cache.free(cache.alloc());
    in_parent(&engine);
    ends(move || waiting.into_iter().for_each(|thread| thread.join().expect("no panic")));
    valid(&engine, 0);
}

#[test]
fn a_fork_inside_a_callback_leaves_the_gate_as_it_is() {
    let engine = engine(2);
    for after in [in_parent, in_child] {
        let heard = Arc::new(Mutex::new(0));
        listen(&engine, {
            let (engine, heard) = (Arc::downgrade(&engine), heard.clone());
            move |_, _| {
                let engine = engine.upgrade().expect("the engine that calls");
                engine.before_fork();
                after(&engine);
                assert!(engine.create(&spec("inside", 64)).is_err(), "it is still inside");
                *heard.lock().expect("no panic") += 1;
                Ok(())
            }
        });
        let user = engine.clone();
        ends(move || {
            user.cpu_down(1).expect("CPU 0 stays");
            user.cpu_up(1).expect("it is down");
        });
        assert_eq!(*heard.lock().expect("no panic"), 4);
    }
    valid(&engine, 0);
}

#[test]
fn a_child_does_not_wait_for_pins_of_threads_it_does_not_have() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "pinned", 64);
    let (send, receive) = mpsc::channel();
    let looker = engine.clone();
    // This thread is in the middle of the statistics for ever: the child has only a copy of its traces.
    std::thread::spawn(move || {
        looker.for_each_cache(|stats| {
            if stats.name == "pinned" {
                send.send(()).expect("the test waits");
                loop {
                    std::thread::park();
                }
            }
        });
    });
    receive.recv().expect("it got there");
    engine.before_fork();
    in_child(&engine);
    ends(move || cache.destroy()).expect("nobody uses it");
    use_everything(&engine);
    valid(&engine, 0);
}

#[test]
fn between_the_handlers_the_thread_itself_may_do_everything() {
    for engine in [engine(2), eager(2)] {
        for after in [in_parent, in_child] {
            let user = engine.clone();
            ends(move || {
                let cache = Cache::new(&user, "stock", 64);
                let objects = cache.bulk(500);
                assert!(user.before_fork() && user.is_forking());
                // What a handler does that was registered before ours.
                cache.free_bulk(&objects);
                let more = cache.bulk(300);
                use_everything(&user);
                let wanting: Vec<_> = [
                    (|engine| _ = engine.page_stats()) as fn(&E),
                    |engine| _ = engine.cache_count(),
                    |engine| _ = engine.meta_used(),
                ]
                .into_iter()
                .map(|work| {
                    let user = user.clone();
                    std::thread::spawn(move || work(&user))
                })
                .collect();
                std::thread::sleep(Duration::from_millis(10));
                assert!(wanting.iter().all(|thread| !thread.is_finished()), "the locks are taken all the same");
                after(&user);
                assert!(!user.is_forking());
                wanting.into_iter().for_each(|thread| thread.join().expect("no panic"));
                cache.free_bulk(&more);
                // The locks are free again, for others too.
                let other = user.clone();
                std::thread::spawn(move || use_everything(&other)).join().expect("no panic");
                cache.destroy().expect("nobody uses it");
                valid(&user, 0);
            });
        }
    }
}

#[test]
fn a_fork_between_the_handlers_of_another_leaves_its_locks_taken() {
    let engine = engine(2);
    let count = Arc::new(AtomicUsize::new(0));
    assert!(engine.before_fork());
    let other = {
        let (engine, count) = (engine.clone(), count.clone());
        std::thread::spawn(move || {
            let _ = engine.page_stats();
            count.fetch_add(1, Ordering::SeqCst);
        })
    };
    // In a signal handler that runs now: in the parent, and in the child that goes on with the outer fork.
    assert!(!engine.before_fork());
    // SAFETY: `before_fork` was called.
    assert!(!unsafe { engine.after_fork() });
    assert!(!engine.before_fork());
    // SAFETY: as above.
    unsafe {
        engine.inherit();
        assert!(!engine.after_fork());
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    in_parent(&engine);
    ends(move || other.join().expect("no panic"));
}

thread_local! {
    static HANDLER: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Called in the middle of a free, while a node's lock is held: what a signal handler would do there.
fn interrupted(_: usize, _: FreeError) {
    HANDLER.take().expect("one bad free for each handler")();
}

fn interruptible(cpus: usize) -> E {
    engine_of(Machine::with_cpus(cpus), Config { bad_free: interrupted, ..config(Population::OnFirstUse) })
}

/// Runs `handler` while the calling thread has the lock of the cache's node, in the middle of putting objects there,
/// and has stopped all CPUs.
fn inside_a_node(cache: &Cache, handler: impl FnOnce() + 'static) {
    HANDLER.set(Some(Box::new(handler)));
    // All of a batch of a slab go back at once, and one of them is free already.
    let objects = cache.bulk(3);
    cache.shrink();
    cache.free_bulk(&[objects[0], objects[1], objects[1], objects[2]]);
    cache.shrink();
    assert!(HANDLER.with_borrow(Option::is_none), "the handler ran");
}

#[test]
fn a_fork_inside_an_operation_leaves_its_lock_as_it_is() {
    for after in [in_parent, in_child] {
        let engine = interruptible(2);
        ends(move || {
            let cache = Cache::new(&engine, "interrupted", 64);
            let (user, id) = (engine.clone(), cache.id);
            inside_a_node(&cache, move || {
                assert!(user.before_fork());
                after(&user);
                // The rest is free for others.
                let other = user.clone();
                std::thread::spawn(move || {
                    let cache = Cache::new(&other, "another", 64);
                    cache.free_bulk(&cache.bulk(200));
                    let _ = (other.page_stats(), other.meta_used(), other.cache_count());
                })
                .join()
                .expect("no panic");
                // Its own is still its own: whoever wants it waits.
                let waits = user.clone();
                let waiting = std::thread::spawn(move || _ = waits.with_stats(id, |_| ()));
                std::thread::sleep(Duration::from_millis(10));
                assert!(!waiting.is_finished());
            });
            valid(&engine, 0);
        });
    }
}

#[test]
fn a_fork_does_not_wait_for_a_thread_that_it_keeps_waiting() {
    let engine = interruptible(2);
    ends(move || {
        let cache = Cache::new(&engine, "interrupted", 64);
        let (user, drains) = (engine.clone(), cache.clone());
        inside_a_node(&cache, move || {
            // It is inside the gate, and waits for the CPU that this thread has stopped.
            let waiting = std::thread::spawn(move || drains.shrink());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            assert!(user.before_fork());
            in_parent(&user);
            assert!(!waiting.is_finished(), "it goes on when the operation does");
        });
        cache.shrink();
        valid(&engine, 0);
    });
}

#[test]
fn two_that_are_inside_of_what_the_other_needs_both_fork() {
    let engine = interruptible(2);
    let (one, two) = (Cache::new(&engine, "one", 64), Cache::new(&engine, "two", 64));
    // The other one keeps their slab.
    let [free_already, _] = [two.alloc(), two.alloc()];
    two.free(free_already);
    two.shrink();
    let fork = |met: Arc<Barrier>, engine: E| {
        move || {
            met.wait();
            assert!(engine.before_fork());
            in_parent(&engine);
        }
    };
    let [begun, inside] = [(); 2].map(|()| Arc::new(Barrier::new(2)));
    let (first, second) = (fork(inside.clone(), engine.clone()), fork(inside, engine.clone()));
    let begin = begun.clone();
    let threads = [
        std::thread::spawn(move || {
            inside_a_node(&one, move || {
                begin.wait();
                first();
            });
        }),
        std::thread::spawn(move || {
            begun.wait();
            // The CPUs are stopped, so what this thread frees goes to the depot, and once that is full to the node.
            HANDLER.set(Some(Box::new(second)));
            while HANDLER.with_borrow(Option::is_some) {
                two.free(free_already);
            }
        }),
    ];
    ends(move || threads.into_iter().for_each(|thread| thread.join().expect("no panic")));
    // (The depot has the object many times over: all that would empty it is left out.)
    let cache = Cache::new(&engine, "after", 64);
    cache.free_bulk(&cache.bulk(300));
    cache.destroy().expect("nobody uses it");
    assert!(engine.page_stats().used > 0 && holds_no_lock(&engine));
}

#[test]
fn one_that_is_inside_forks_before_one_that_waits_for_it() {
    let engine = interruptible(2);
    let order = Arc::new(Mutex::new(Vec::new()));
    let cache = Cache::new(&engine, "interrupted", 64);
    let (user, said, forks) = (engine.clone(), order.clone(), engine.clone());
    ends(move || {
        inside_a_node(&cache, move || {
            let second = order.clone();
            let waiting = std::thread::spawn(move || {
                assert!(forks.before_fork());
                second.lock().expect("no panic").push("ordinary");
                in_parent(&forks);
            });
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished(), "it needs the node's lock");
            assert!(user.before_fork());
            order.lock().expect("no panic").push("interrupted");
            in_parent(&user);
        });
    });
    while said.lock().expect("no panic").len() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(*said.lock().expect("no panic"), ["interrupted", "ordinary"]);
}

#[test]
fn a_walk_that_forks_keeps_the_slab_it_has_set_aside() {
    for after in [in_parent, in_child] {
        let engine = engine(2);
        let user = engine.clone();
        ends(move || {
            let cache = Cache::new(&user, "sparse", 64);
            let objects = cache.bulk(20_000);
            let (kept, freed): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object % (1 << 16) < 64);
            cache.free_bulk(&freed);
            let forks = user.clone();
            let forker = std::sync::Mutex::new(Some(move || {
                assert!(forks.before_fork());
                after(&forks);
            }));
            user.platform().at_next_purge(move || {
                let fork = forker.lock().expect("no panic").take();
                fork.expect("once")();
            });
            cache.shrink();
            valid(&user, kept.len());
            cache.free_bulk(&kept);
            cache.destroy().expect("nobody uses it");
            valid(&user, 0);
        });
    }
}

#[test]
fn words_say_whose_they_are() {
    let platform = fake::Fake::new(Machine { granules: 1, ..Machine::with_cpus(1) });
    let me = platform.thread_token();
    let (word, forker) = (Word::new(), Forker::new(&platform));
    assert!(word.take_free(me) && !word.try_take(me) && !word.is_mine_for_fork(me));
    assert_eq!(forker.take(&word), Ok(()), "its own: left alone");
    forker.give_back(&word);
    assert!(!forker.inherit(&word) && word.value() == me);
    word.free();
    assert_eq!(forker.take(&word), Ok(()));
    assert!(word.try_take(me) && word.is_mine_for_fork(me) && !word.take_free(me));
    forker.give_back(&word);
    assert_eq!(word.value(), 0);
    // Another's, which is gone.
    assert!(word.take_free(me + 8) && !word.try_take(me));
    assert!(forker.inherit(&word) && word.value() == 0);
}

#[test]
fn chains_of_threads_that_wait_are_followed() {
    for why in [Why::Operation, Why::Fork] {
        let platform = fake::Fake::new(Machine { granules: 1, ..Machine::with_cpus(1) });
        let (waiters, met) = (Waiters::new(), Barrier::new(3));
        let me = platform.thread_token();
        // The first thread waits for what the second has, and that one for what this one has.
        let (seconds, mine, free) = (Word::new(), Word::new(), Word::new());
        assert!(mine.take_free(me));
        let tokens = [const { AtomicUsize::new(0) }; 2];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tokens[0].store(platform.thread_token(), Ordering::SeqCst);
                // SAFETY: the word outlives the scope of this thread.
                let note = unsafe { waiters.note(&platform, &seconds, Why::Operation) }.expect("room");
                met.wait();
                met.wait();
                drop(note);
                // SAFETY: the word outlives the scope of this thread.
                let _note = unsafe { waiters.note(&platform, &free, Why::Operation) }.expect("room");
                met.wait();
                met.wait();
            });
            scope.spawn(|| {
                tokens[1].store(platform.thread_token(), Ordering::SeqCst);
                assert!(seconds.take_free(platform.thread_token()));
                // SAFETY: the word outlives the scope of this thread.
                let _note = unsafe { waiters.note(&platform, &mine, why) }.expect("room");
                met.wait();
                met.wait();
                met.wait();
                met.wait();
            });
            met.wait();
            let [first, second] = [0, 1].map(|thread| tokens[thread].load(Ordering::SeqCst));
            assert_eq!((waiters.chain(first, me), waiters.chain(second, me)), (Some(why), Some(why)));
            assert_eq!((waiters.chain(me, me), waiters.chain(first, second)), (None, Some(Why::Operation)));
            met.wait();
            met.wait();
            assert_eq!(waiters.chain(first, me), None, "nobody has what it waits for");
            mine.free();
            assert_eq!(waiters.chain(second, me), None, "what it waits for is free");
            met.wait();
        });
    }
}

#[test]
fn a_destroy_that_forks_ends_in_the_child_too() {
    for after in [in_parent, in_child] {
        let engine = engine(2);
        ends(move || {
            let cache = Cache::new(&engine, "ends", 64);
            cache.fill_slot();
            let forks = engine.clone();
            engine.platform().at_next_fence(move || {
                assert!(forks.before_fork());
                after(&forks);
            });
            cache.destroy().expect("nobody uses it");
            valid(&engine, 0);
        });
    }
}

#[test]
fn a_fork_waits_for_readers_of_the_gate_before_it_takes_anything_else() {
    let engine = engine(2);
    let cache = Cache::new(&engine, "drained", 64);
    cache.fill_slot();
    let (inside, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let hook = (inside.clone(), go_on.clone());
    engine.platform().at_next_fence(move || {
        hook.0.wait();
        hook.1.wait();
    });
    let reader = std::thread::spawn(move || cache.shrink());
    inside.wait();
    let forks = engine.clone();
    let forker = std::thread::spawn(move || {
        assert!(forks.before_fork());
        in_parent(&forks);
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(!forker.is_finished());
    let looks = engine.clone();
    ends(move || assert!(looks.cache_count() > 0, "the registry is free meanwhile"));
    go_on.wait();
    ends(move || {
        reader.join().expect("no panic");
        forker.join().expect("no panic");
    });
    valid(&engine, 0);
}

/// One thread is interrupted in the middle of putting objects on a node; another drains, has stopped both CPUs, and
/// waits for that node. The child has neither the one that drains nor what it holds. (Both threads stay as they are for
/// ever.)
#[test]
fn cpus_that_a_thread_had_stopped_run_again_in_the_child() {
    let engine = interruptible(2);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let cache = Cache::new(&engine, "overflows", 64);
        let objects = cache.bulk(5000);
        cache.free_bulk(&objects);
        fake::run_on(1);
        cache.fill_slot();
        fake::run_on(0);
        let (user, drains) = (engine.clone(), cache.clone());
        HANDLER.set(Some(Box::new(move || {
            std::thread::spawn(move || drains.shrink());
            std::thread::sleep(Duration::from_millis(50));
            assert!(user.active_cpus().is_empty(), "both are stopped");
            assert!(user.before_fork());
            in_child(&user);
            // Their controls are free: another thread sees.
            std::thread::spawn(move || {
                let stats = [0, 1].map(|cpu| user.cpu_stats(cpu).is_some());
                send.send((user.active_cpus().len(), stats)).expect("the test waits");
            });
            loop {
                std::thread::park();
            }
        })));
        cache.free_bulk(&objects);
    });
    assert_eq!(receive.recv_timeout(common::patience()), Ok((2, [true; 2])));
}
