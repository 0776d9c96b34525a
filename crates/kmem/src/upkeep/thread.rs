//! The thread named `kmem`, where one is asked for.
//!
//! It is a thread that libc does not know, with all signals blocked ([`linux::thread`](crate::linux::thread)). It calls
//! no code of the program's: no destructor, constructor or listener. It has no capabilities and can get none.
//!
//! # Descriptors
//! It has a table of its own, so what it waits for is not among the program's descriptors, and what the program has open
//! is not kept open by it.
//!
//! # CPUs
//! It runs where the process's other threads run, not only where the one runs that happened to start it. Where nothing was
//! left to do for some turns it rests, and looks half as often.

use kmem_core::platform::Clock;
use kmem_core::sync::{AtomicU32, Ordering};

use super::{ASK, CALL, MILLISECOND, OFF, PERIOD, WANTED, hold};
use crate::follow::{Hints, Unavailable, threads};
use crate::linux::fault::{self, Call};
use crate::linux::{descriptors, sys, thread};
use crate::runtime;

/// Turns with nothing left to do after which the thread rests.
const IDLE_TURNS: u32 = 4;
/// Periods between two turns where the thread rests.
const AT_REST: u64 = 2;

/// Whether there is a thread.
const NONE: u32 = 0;
const THERE: u32 = 1;

static STATE: AtomicU32 = AtomicU32::new(NONE);

/// Whether there is a thread.
pub(super) fn is_there() -> bool {
    STATE.load(Ordering::Acquire) == THERE
}

/// Starts the thread, if there is none; `false` where it cannot be had. The caller has the work, for which the thread waits.
#[cold]
pub(super) fn start() -> bool {
    if fault::refused(Call::Upkeep) {
        return false;
    }
    if STATE.compare_exchange(NONE, THERE, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return true;
    }
    let started = thread::spawn(turn_after_turn);
    if !started {
        STATE.store(NONE, Ordering::Release);
    }
    started
}

/// Forgets the thread, which the child does not have.
pub(super) fn after_fork_in_child() {
    STATE.store(NONE, Ordering::Relaxed);
    thread::after_fork_in_child();
}

#[cold]
extern "C" fn turn_after_turn() {
    sys::schedule_ordinarily();
    sys::name_thread(c"kmem");
    sys::give_up_rights();
    let Some(engine) = runtime::existing() else { return STATE.store(NONE, Ordering::Release) };
    let own_table = descriptors::own_table().is_ok();
    let mut hints = Hints::none();
    {
        let mut work = hold();
        threads::run_where_others_do();
        work.unavailable.set(Unavailable::Table, !own_table);
        if own_table {
            hints = Hints::open(&mut work.unavailable);
            work.keep_page_open(engine);
        }
    }
    let mut idle = 0;
    loop {
        let mut work = hold();
        // A thread that switches upkeep off has the work meanwhile.
        if WANTED.load(Ordering::Relaxed) == OFF {
            drop(work);
            return end();
        }
        work.last_turn = engine.platform().now();
        let left = work.turn(engine);
        drop(work);
        idle = if left { 0 } else { (idle + 1).min(IDLE_TURNS + 1) };
        let periods = if idle > IDLE_TURNS { AT_REST } else { 1 };
        hints.wait(engine.platform(), periods * PERIOD / MILLISECOND);
    }
}

/// A thread that switches upkeep on again in this moment may have found this one alive: slow paths look again.
fn end() {
    STATE.store(NONE, Ordering::SeqCst);
    if WANTED.load(Ordering::SeqCst) != OFF {
        CALL.store(ASK, Ordering::Release);
    }
}
