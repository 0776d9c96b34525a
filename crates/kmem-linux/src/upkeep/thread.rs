//! The thread named `kmem`, where one is asked for.
//!
//! It is a thread that libc does not know, with all signals blocked ([`process::thread`](crate::process::thread)). It
//! calls no code of the program's: no destructor, constructor or listener. It has no capabilities and can get none.
//!
//! # Descriptors
//! It has a table of its own, so what it waits for is not among the program's descriptors, and what the program has
//! open is not kept open by it.
//!
//! # CPUs
//! It runs where the process's other threads run, not only where the one runs that happened to start it. Where nothing
//! was left to do for some turns it rests, and looks half as often.

use kmem_core::platform::Clock;
use kmem_core::sync::Ordering;

use super::place::hold;
use super::state::{CALL, MILLISECOND, NONE, OFF, PERIOD, THERE, THREAD as STATE, WANTED};
use super::turn::Work;
use crate::control::{self, ASK};
use crate::follow::{Hints, Unavailable, threads};
use crate::instance;
use crate::os::fault::{self, Call};
use crate::os::{descriptors, sys};
use crate::process::thread;

/// Turns with nothing left to do after which the thread rests.
const IDLE_TURNS: u32 = 4;
/// Periods between two turns where the thread rests.
const AT_REST: u64 = 2;

/// Until a thread that could not be started is asked for again, in nanoseconds.
const RETRY: u64 = 10_000_000_000;

/// Starts the thread that is wanted. One that could not be started is asked for again later.
pub(super) fn see_to(work: &mut Work, now: u64) {
    if now >= work.start_again {
        let started = start();
        work.unavailable.set(Unavailable::Thread, !started);
        work.start_again = if started { 0 } else { now + RETRY };
    }
}

/// Starts the thread, if there is none; `false` where it cannot be started. The caller has the work, for which the
/// thread waits.
#[cold]
fn start() -> bool {
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
    let Some(engine) = instance::existing() else { return STATE.store(NONE, Ordering::Release) };
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
        control::look(engine, &mut work);
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
