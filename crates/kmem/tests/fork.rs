//! Forks in a signal handler that interrupted the life of a cache anywhere, in a program with threads whose allocator
//! this is: the parent goes on, and the child goes on where it was interrupted.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: kmem::Kmalloc = kmem::Kmalloc;

const SIGUSR1: c_int = 10;
const FORKS: usize = 200;
/// Caches that a child makes and destroys before it ends.
const AFTERWARDS: usize = 4;

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
    safe fn alarm(seconds: u32) -> u32;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    safe fn pthread_self() -> usize;
    fn pthread_kill(thread: usize, number: c_int) -> c_int;
}

static FORKED: AtomicUsize = AtomicUsize::new(0);
static BAD: AtomicI32 = AtomicI32::new(0);
static IN_CHILD: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: c_int) {
    // A child of the time after the last would wait for threads that it does not have.
    if FORKED.load(SeqCst) >= FORKS {
        return;
    }
    // SAFETY: fork is async-signal-safe. That it is with this allocator too is the subject.
    let pid = unsafe { fork() };
    if pid == 0 {
        alarm(60);
        IN_CHILD.store(true, SeqCst);
        return;
    }
    let mut status = 0;
    // SAFETY: the status is a word.
    if pid < 0 || unsafe { waitpid(pid, &raw mut status, 0) } != pid || status != 0 {
        BAD.store(if status == 0 { -1 } else { status }, SeqCst);
    }
    FORKED.fetch_add(1, SeqCst);
}

/// The whole life of a cache, objects in use when it is first to be destroyed among it.
fn live(number: usize) {
    let cache: kmem::Cache<[usize; 9]> = kmem::Cache::new(&format!("fork_{number}")).expect("a cache");
    let held: Vec<_> = (0..200).map(|n| cache.alloc([n; 9]).expect("memory")).collect();
    assert!(held.iter().enumerate().all(|(n, object)| **object == [n; 9]));
    drop(held);
    cache.shrink().expect("no callback");
    cache.destroy().expect("nobody uses it");
}

#[test]
fn caches_that_are_made_and_destroyed_may_be_interrupted_by_forks() {
    // SAFETY: the handler calls what may be called in one.
    unsafe { signal(SIGUSR1, on_signal) };
    let (me, stop) = (pthread_self(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                // SAFETY: the thread lives until this one is joined.
                unsafe { pthread_kill(me, SIGUSR1) };
                std::thread::sleep(Duration::from_micros(1500));
            }
        });
        scope.spawn(|| {
            let mut number = 1_000_000;
            while !stop.load(SeqCst) {
                number += 1;
                live(number);
            }
        });
        let mut number = 0;
        let mut left = AFTERWARDS;
        while FORKED.load(SeqCst) < FORKS {
            number += 1;
            live(number);
            if IN_CHILD.load(SeqCst) {
                left -= 1;
                if left == 0 {
                    // SAFETY: ends the child.
                    unsafe { _exit(0) };
                }
            }
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(BAD.load(SeqCst), 0, "the wait status of a child (14: it hung)");
    // SAFETY: the other threads have ended, and the harness waits for this one.
    unsafe { kmem::validate() }.expect("an allocator in order");
}
