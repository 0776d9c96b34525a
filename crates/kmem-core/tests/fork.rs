//! What fork handlers do: every lock is taken in order, given back in the parent, and the child does not wait for
//! threads that it does not have.

mod common;

use common::{Cache, E, eager, ends, engine, listen, spec, valid};
use kmem_sim::fake;
use std::sync::{Arc, Mutex, mpsc};
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
    unsafe { engine.after_fork() }
}

fn in_child(engine: &E) {
    // SAFETY: as above; the other threads of the test are as good as gone.
    unsafe { engine.after_fork_in_child() }
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
