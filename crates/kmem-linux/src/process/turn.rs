//! fork, one thread at a time: for a C library that holds a lock of its own while fork handlers run, as musl does.
//!
//! # What would hang
//! Thread A is interrupted in malloc, with one of kmem's locks in its hands, and its signal handler forks. Thread B
//! forks as well. Under glibc kmem's fork handlers settle that: they run on both threads, and B's, which waits for A's
//! lock, lets A fork first. Under musl, A never comes to its handlers: it waits for musl's lock, which B holds until
//! its fork is over. Just so waits a handler that has interrupted fork itself, for the thread that it runs on.
//!
//! # Turns
//! So a thread takes its turn before it calls the C library's `fork`, and looks, while it waits for it, whether the
//! thread whose turn it is waits for it (`Waiters::chain`). If that is so, or if the turn is its own already, it forks
//! by `_Fork`, which musl has for signal handlers and which takes no lock, and calls kmem's handlers itself. Then it is
//! as under glibc. What is lost are the program's own fork handlers, in a child that by POSIX may call only
//! async-signal-safe functions up to its exec.
//!
//! No lock of kmem's but the turn is taken here. Fork handlers of a program take its locks, whose holders may wait for
//! kmem's: these come last, in our own handler. Waiting for a turn is what a thread would do at musl's lock anyway, and
//! holding the program's locks meanwhile is as harmful as there.
//!
//! # The child
//! A turn of another thread's is over in the child. If it was forked by `_Fork` beside that thread, musl's lock may be
//! held there by a thread that does not exist: all forks of such a child go by `_Fork` (`BESIDE`).
//!
//! # Not covered
//! `forkpty` and `daemon` call musl's fork directly and take no turn.

use core::ffi::c_int;

use kmem_core::platform::Park;
use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering, Word};

use crate::fork::{after_fork, after_fork_in_child, before_fork};
use crate::instance::existing;
use crate::platform::Linux;
use crate::rseq::thread_data;

/// A fork of the C library's: 0 in the child, below zero if there is none.
pub type Fork = unsafe extern "C" fn() -> c_int;

/// The thread whose turn it is.
static TURN: Word = Word(AtomicUsize::new(0));
/// Whether this process was forked beside the fork of a thread that it does not have.
static BESIDE: AtomicU32 = AtomicU32::new(0);

/// Forks by `whole`; in turn, if the C library has `bare`, which runs no handlers, and by that where no turn can come.
///
/// # Safety
/// The two are `fork` and `_Fork` of the C library.
pub unsafe fn fork(whole: Fork, bare: Option<Fork>) -> c_int {
    // SAFETY: passed on.
    unsafe {
        match bare {
            Some(bare) => fork_in_turn(whole, bare),
            None => whole(),
        }
    }
}

// Functions of their own, so that none of their frames lies below the handlers of `fork_beside`, which go deep.
#[inline(never)]
unsafe fn fork_in_turn(whole: Fork, bare: Fork) -> c_int {
    // SAFETY: passed on.
    unsafe {
        match existing() {
            None => whole(),
            Some(engine) if takes_turn(engine.platform()) => {
                let child = whole();
                TURN.free();
                child
            }
            Some(_) => fork_beside(bare),
        }
    }
}

/// Waits for the turn of the calling thread; `false` where it cannot come before the thread goes on.
#[inline(never)]
fn takes_turn(linux: &Linux) -> bool {
    let (me, mut tries) = (linux.thread_token(), 0);
    if BESIDE.load(Ordering::Relaxed) != 0 {
        return false;
    }
    while !TURN.take_free(me) {
        let other = TURN.value();
        let waits_for_me = || linux.waiters().is_some_and(|waiters| waiters.chain(other, me).is_some());
        if other == me || (other != 0 && waits_for_me()) {
            return false;
        }
        linux.rest(tries);
        tries += 1;
    }
    true
}

/// Forks without the C library's handlers, and with kmem's.
///
/// # Safety
/// `bare` is `_Fork`.
#[cold]
#[inline(never)]
unsafe fn fork_beside(bare: Fork) -> c_int {
    // SAFETY: the handlers are called in their order, around a fork.
    unsafe {
        before_fork();
        let child = bare();
        if child == 0 {
            if ![0, thread_data::pointer()].contains(&TURN.value()) {
                BESIDE.store(1, Ordering::Relaxed);
            }
            after_fork_in_child();
        } else {
            after_fork();
        }
        child
    }
}

/// In the child: the turn of a thread that does not exist there is over.
pub(crate) fn inherit() {
    if TURN.value() != thread_data::pointer() {
        TURN.free();
    }
}
