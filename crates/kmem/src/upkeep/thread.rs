//! The thread named `kmem`: how it begins, lives and ends.
//!
//! It is a thread of libc's, so that libc knows it where it matters (setuid is broadcast to all threads, dlopen gives all
//! of them thread-local storage), detached, with a small stack and all signals blocked: no handler of the program's ever
//! runs on it.
//!
//! # Descriptors
//! It has a table of its own, so what it waits for is not among the program's descriptors, and what the program has open
//! is not kept open by it.
//!
//! # CPUs
//! It runs where the process's other threads run, not only where the one runs that happened to start it.
//!
//! # The last thread
//! A process ends when its last thread does, also if `main` ended by pthread_exit. That last thread must not be this
//! one, so it looks in each turn whether it is the only one left, and ends: libc then ends the process.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr::null_mut;

use kmem_core::platform::Clock;
use kmem_core::sync::Ordering;

use super::turn::By;
use super::{ALIVE, ASK, CALL, ENDING, MILLISECOND, NONE, PERIOD, STATE, WANTED, hold, is_large};
use crate::follow::{Hints, Lack, threads};
use crate::linux::fault::{self, Call};
use crate::linux::{descriptors, sys};
use crate::runtime;

/// Words of libc's `sigset_t` and `pthread_attr_t` (128 and 56 bytes), with room.
type Words = [c_ulong; 16];
const SIG_SETMASK: c_int = 2;
const DETACHED: c_int = 1;
/// Bytes of stack, of which a turn uses a few pages. libc refuses it where a program has more thread-local storage than
/// that: then it is libc's choice.
const STACK: usize = 128 << 10;
/// Turns with nothing left to do after which the thread ends, or rests.
const IDLE_TURNS: u32 = 4;
/// Periods between two turns where the thread rests.
const AT_REST: u64 = 2;

#[link(name = "c")]
unsafe extern "C" {
    fn pthread_attr_init(attributes: *mut Words) -> c_int;
    fn pthread_attr_setdetachstate(attributes: *mut Words, state: c_int) -> c_int;
    fn pthread_attr_setstacksize(attributes: *mut Words, bytes: usize) -> c_int;
    fn pthread_attr_destroy(attributes: *mut Words) -> c_int;
    fn pthread_create(
        thread: *mut usize,
        attributes: *const Words,
        run: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const Words, old: *mut Words) -> c_int;
    fn __errno_location() -> *mut c_int;
}

/// Starts the thread; `false` where it cannot be had. The caller has the work, and no lock; libc may allocate in here.
#[cold]
pub(super) fn start() -> bool {
    // Only in glibc nobody allocates while he holds what pthread_create takes.
    if !cfg!(target_env = "gnu") || fault::refused(Call::Upkeep) || threads::alive().is_none() {
        return false;
    }
    STATE.store(ALIVE, Ordering::Release);
    // A thread that cannot be had is no error of the allocation that asked for it, but libc's calls say so in errno.
    // SAFETY: libc is set up, so this thread has an errno, which lives as long as the thread.
    let (errno, before) = unsafe { (__errno_location(), __errno_location().read()) };
    let started = create(Some(STACK)) || create(None);
    // SAFETY: as above.
    unsafe { errno.write(before) };
    if !started {
        STATE.store(NONE, Ordering::Release);
    }
    started
}

#[cold]
fn create(stack: Option<usize>) -> bool {
    let (all, mut before, mut attributes, mut thread) = ([c_ulong::MAX; 16], [0; 16], [0; 16], 0);
    // SAFETY: sets and attributes are as large as libc's; the thread runs a function of ours, which is never unmapped.
    unsafe {
        if pthread_attr_init(&raw mut attributes) != 0 {
            return false;
        }
        pthread_attr_setdetachstate(&raw mut attributes, DETACHED);
        let fits = stack.is_none_or(|bytes| pthread_attr_setstacksize(&raw mut attributes, bytes) == 0);
        // libc leaves its own signals open, by which setuid reaches the thread.
        pthread_sigmask(SIG_SETMASK, &raw const all, &raw mut before);
        let started = fits && pthread_create(&raw mut thread, &raw const attributes, run, null_mut()) == 0;
        pthread_sigmask(SIG_SETMASK, &raw const before, null_mut());
        pthread_attr_destroy(&raw mut attributes);
        started
    }
}

#[cold]
extern "C" fn run(_: *mut c_void) -> *mut c_void {
    sys::name_thread(c"kmem");
    let Some(engine) = runtime::existing() else { return null_mut() };
    let own_table = descriptors::own_table().is_ok();
    let mut hints = Hints::none();
    {
        let mut work = hold();
        threads::run_where_others_do();
        work.lacks.set(Lack::Table, !own_table);
        if own_table {
            hints = Hints::open(&mut work.lacks);
            work.keep_page_open(engine);
        }
    }
    let mut idle = 0;
    loop {
        let mut work = hold();
        // Who switches upkeep off has the work meanwhile.
        if WANTED.load(Ordering::Relaxed) == super::OFF || threads::alive().is_some_and(|alive| alive.only_this) {
            drop(work);
            return end();
        }
        work.last_turn = engine.platform().now();
        let left = work.turn(engine, By::Thread);
        drop(work);
        idle = if left { 0 } else { idle + 1 };
        if idle >= IDLE_TURNS && !is_large(engine) {
            if idle == IDLE_TURNS {
                // The next slow path cancels the end, or finds that there is no thread.
                STATE.store(ENDING, Ordering::Release);
                CALL.store(ASK, Ordering::Release);
            } else if STATE.compare_exchange(ENDING, NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return null_mut();
            } else {
                idle = 0;
            }
        }
        let periods = if idle > IDLE_TURNS { AT_REST } else { 1 };
        hints.wait(engine.platform(), periods * PERIOD / MILLISECOND);
    }
}

/// Who switches upkeep on again in this moment may have found the thread alive: slow paths look again.
fn end() -> *mut c_void {
    STATE.store(NONE, Ordering::SeqCst);
    if WANTED.load(Ordering::SeqCst) != super::OFF {
        CALL.store(ASK, Ordering::Release);
    }
    null_mut()
}
