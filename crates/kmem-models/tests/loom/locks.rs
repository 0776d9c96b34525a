//! The lock and the gate by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmem_core::internals::{Forker, Gate, Mutex};
use kmem_core::sync::{AtomicUsize as ModelUsize, Ordering as ModelOrdering, Rank};

use crate::checked::platform::{Machine, Model};
use crate::checked::{join, thread};
use crate::explore::explore;

fn platform() -> Arc<Model> {
    Arc::new(Model::new(Machine::new(1, &[0]).with_granules(0)))
}

/// A thread that is known to the platform.
fn run<R: Send + 'static>(
    platform: &Arc<Model>,
    code: impl FnOnce(&Model) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let platform = platform.clone();
    thread::spawn(move || {
        platform.enter(0);
        code(&platform)
    })
}

/// Three threads count under one lock. loom sees to it that what the lock guards is ordered, and that no sleeper is
/// forgotten.
#[test]
fn three_threads_at_one_lock() {
    explore("three threads at one lock", Some(3), || {
        let platform = platform();
        let lock = Arc::new(Mutex::new(Rank::Node, 0));
        let threads: [_; 2] = core::array::from_fn(|_| {
            let lock = lock.clone();
            run(&platform, move |park| *lock.lock(park) += 1)
        });
        *lock.lock(&*platform) += 1;
        threads.into_iter().for_each(join);
        assert_eq!(*lock.lock(&*platform), 3);
    });
}

#[test]
fn two_threads_at_one_lock() {
    explore("two threads at one lock", None, || {
        let platform = platform();
        let lock = Arc::new(Mutex::new(Rank::Node, 0));
        let other = {
            let lock = lock.clone();
            run(&platform, move |park| {
                *lock.lock(park) += 1;
                *lock.lock(park) += 1;
            })
        };
        *lock.lock(&*platform) += 1;
        join(other);
        assert_eq!(*lock.lock(&*platform), 3);
    });
}

#[test]
fn somebody_who_only_tries_the_lock() {
    explore("somebody who only tries the lock", Some(3), || {
        let platform = platform();
        let lock = Arc::new(Mutex::new(Rank::Node, 0));
        let (waiting, trying) = (lock.clone(), lock.clone());
        let waiter = run(&platform, move |park| *waiting.lock(park) += 1);
        let tries = run(&platform, move |park| trying.try_lock(park).map(|mut count| *count += 1).is_some());
        *lock.lock(&*platform) += 1;
        join(waiter);
        let expected = 2 + usize::from(join(tries));
        assert_eq!(*lock.lock(&*platform), expected);
    });
}

/// A fork takes the lock among others that do, and the thread that forks locks it again, nested. Nobody comes in
/// between, and no sleeper is forgotten.
#[test]
fn a_fork_among_those_who_lock() {
    explore("a fork among those who lock", Some(3), || {
        let platform = platform();
        let lock = Arc::new(Mutex::new(Rank::Node, 0));
        let others: [_; 2] = core::array::from_fn(|_| {
            let lock = lock.clone();
            run(&platform, move |park| *lock.lock(park) += 1)
        });
        let forker = Forker::new(&*platform);
        assert_eq!(forker.take(lock.word()), Ok(()));
        let before = *lock.lock(&*platform);
        *lock.try_lock(&*platform).expect("nested") += 1;
        assert_eq!(*lock.lock(&*platform), before + 1, "somebody came in between");
        forker.give_back(lock.word());
        others.into_iter().for_each(join);
        assert_eq!(*lock.lock(&*platform), 3);
    });
}

/// While the writer is inside nobody else is, and all get in at last (I40).
#[test]
fn two_readers_and_a_writer_at_the_gate() {
    explore("two readers and a writer at the gate", Some(3), || {
        let platform = platform();
        let gate = Arc::new(Gate::new());
        let inside = Arc::new(AtomicUsize::new(0));
        let readers: [_; 2] = core::array::from_fn(|_| {
            let (gate, inside) = (gate.clone(), inside.clone());
            run(&platform, move |park| {
                let guard = gate.read(park).expect("no callback");
                inside.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(guard);
            })
        });
        let guard = gate.write(&*platform).expect("no callback");
        assert_eq!(inside.fetch_add(16, Ordering::Relaxed), 0, "a reader beside the writer");
        assert!(gate.read(&*platform).is_err(), "a callback gets an error (I33)");
        assert_eq!(inside.fetch_sub(16, Ordering::Relaxed), 16, "a reader beside the writer");
        drop(guard);
        readers.into_iter().for_each(join);
    });
}

#[test]
fn two_writers_and_a_reader_at_the_gate() {
    explore("two writers and a reader at the gate", Some(3), || {
        let platform = platform();
        let gate = Arc::new(Gate::new());
        let writers: [_; 2] = core::array::from_fn(|_| {
            let gate = gate.clone();
            run(&platform, move |park| {
                let guard = gate.write(park).expect("no callback");
                assert!(gate.is_writer(park));
                drop(guard);
                assert!(!gate.is_writer(park));
            })
        });
        let guard = gate.read(&*platform).expect("no callback");
        assert!(!gate.is_writer(&*platform));
        drop(guard);
        writers.into_iter().for_each(join);
    });
}

/// What a reader did before a writer comes in, the writer sees; and what a writer did, a later reader.
#[test]
fn the_gate_orders_what_is_done_inside() {
    explore("what is done inside the gate", None, || {
        let platform = platform();
        let gate = Arc::new(Gate::new());
        // The model's atomic may be out of date; who has been inside is known to the test alone, and orders nothing.
        let (data, done) = (Arc::new(ModelUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let reader = {
            let (gate, data, done) = (gate.clone(), data.clone(), done.clone());
            run(&platform, move |park| {
                let guard = gate.read(park).expect("no callback");
                let before = done.fetch_or(1, Ordering::Relaxed);
                assert_eq!(data.load(ModelOrdering::Relaxed) & 2, before & 2, "what the writer did");
                data.fetch_or(1, ModelOrdering::Relaxed);
                drop(guard);
            })
        };
        let guard = gate.write(&*platform).expect("no callback");
        let before = done.fetch_or(2, Ordering::Relaxed);
        assert_eq!(data.load(ModelOrdering::Relaxed), before, "what the reader did");
        data.store(before | 2, ModelOrdering::Relaxed);
        drop(guard);
        join(reader);
        assert_eq!(data.load(ModelOrdering::Relaxed), 3);
    });
}
