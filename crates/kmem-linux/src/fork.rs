//! The fork handlers of this program or shared object.
//!
//! What they do with locks is said in `kmem_core`'s `fork`; this file says when they run, and when there is nothing to
//! do.
//!
//! # Registration
//! Handlers of the program that were registered before ours run while we hold every lock, and may allocate all the
//! same. Still ours are registered as early as can be, so that the others run outside: by a constructor of the
//! executable or shared object that this crate is part of, or at the first miss, if that comes earlier. Whichever comes
//! first does it, before it calls libc: libc may allocate in there, which is the first miss, and it holds a lock
//! meanwhile, so that asking again would wait for ever. For the same reason the constructor is needed: libc allocates
//! for a program's forty-ninth handler, and if that were the first miss, it would ask with the lock held.
//!
//! # One thread
//! In a process with one thread no other thread holds a lock, and nothing is taken: what this thread itself is in the
//! middle of, if a signal handler forks, goes on in both processes. So a shell's forks write to no page of ours on
//! either side. Children of the raw system call, which no handler knows of, find the same.
//!
//! # Signals
//! are blocked while our handlers run, so that a fork in a signal handler finds the locks of the one that it
//! interrupted all taken or all free.

use kmem_core::sync::{AtomicU32, Ordering};

use crate::instance::existing;
use crate::os::{libc, streams, sys};
use crate::process::{forking, turn};
use crate::{platform, profile, upkeep};

/// Runs before constructors that have no number; those of libc and the standard library have run by then.
#[used]
#[unsafe(link_section = ".init_array.00099")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    register();
}

static REGISTERED: AtomicU32 = AtomicU32::new(0);

/// Registers the handlers, once.
#[cold]
pub(crate) fn register() {
    if REGISTERED.swap(1, Ordering::Relaxed) != 0 {
        return;
    }
    // SAFETY: the handlers are functions of ours, which stay mapped.
    if unsafe { libc::at_fork(Some(before_fork), Some(after_fork), Some(after_fork_in_child)) } != 0 {
        // No memory. The next caller tries again.
        REGISTERED.store(0, Ordering::Relaxed);
    }
}

/// Whether the handlers are registered.
pub fn is_registered() -> bool {
    REGISTERED.load(Ordering::Relaxed) != 0
}

/// Runs `work` with all signals blocked.
fn undisturbed(work: impl FnOnce()) {
    let before = sys::block_all_signals();
    work();
    sys::restore_signals(before);
}

#[cold]
pub(crate) unsafe extern "C" fn before_fork() {
    let Some(engine) = existing() else { return };
    if !engine.is_forking() && platform::is_alone() {
        return forking::begin_alone();
    }
    undisturbed(|| {
        if engine.before_fork() {
            profile::before_fork(engine);
        }
    });
}

#[cold]
pub(crate) unsafe extern "C" fn after_fork() {
    let Some(engine) = existing() else { return };
    if !engine.is_forking() {
        return forking::end_alone();
    }
    // SAFETY: the engine says that `before_fork` ran.
    undisturbed(|| unsafe {
        if engine.after_fork() {
            profile::after_fork();
        }
    });
}

#[cold]
pub(crate) unsafe extern "C" fn after_fork_in_child() {
    let Some(engine) = existing() else { return };
    streams::forget();
    turn::inherit();
    if engine.is_forking() {
        // SAFETY: `before_fork` ran on the thread that this one was forked from.
        undisturbed(|| unsafe {
            engine.inherit();
            if engine.after_fork() {
                profile::after_fork_in_child();
            }
        });
    } else {
        forking::end_alone();
    }
    upkeep::after_fork_in_child();
}
