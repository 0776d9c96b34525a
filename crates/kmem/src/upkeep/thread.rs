//! The thread named `kmem`: for one turn, or to stay.
//!
//! It is a thread that libc does not know, with all signals blocked ([`linux::thread`](crate::linux::thread)). It calls
//! no code of the program's: no destructor, constructor or listener.
//!
//! # Descriptors
//! It has a table of its own, so what it opens is not among the program's descriptors, and what the program has open
//! is not kept open by it.
//!
//! # The thread that stays
//! It has no capabilities and can get none, and runs where the process's other threads run, not only where the one runs
//! that happened to start it. Where nothing was left to do for some turns it rests, and looks half as often.

use kmem_core::platform::Clock;
use kmem_core::sync::{AtomicU32, Ordering};

use super::turn::By;
use super::{ASK, CALL, MILLISECOND, OFF, PERIOD, WANTED, hold};
use crate::follow::{Hints, Lack, threads};
use crate::linux::fault::{self, Call};
use crate::linux::{descriptors, sys, thread};
use crate::runtime;

/// Turns with nothing left to do after which the thread rests.
const IDLE_TURNS: u32 = 4;
/// Periods between two turns where the thread rests.
const AT_REST: u64 = 2;

/// Where the thread stands.
const NONE: u32 = 0;
const FOR_A_TURN: u32 = 1;
const TO_STAY: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(NONE);

/// Whether there is a thread, or one that has not quite gone.
pub(super) fn is_alive() -> bool {
    STATE.load(Ordering::Acquire) != NONE || thread::exists()
}

/// Whether there is one that stays.
pub(super) fn stays() -> bool {
    STATE.load(Ordering::Acquire) == TO_STAY
}

/// Starts the thread for one turn; `false` where it cannot be had. The caller has the work, for which the thread waits.
#[cold]
pub(super) fn start_for_a_turn() -> bool {
    start(FOR_A_TURN, one_turn)
}

/// Starts the thread that stays; `false` where it cannot be had.
#[cold]
pub(super) fn start_to_stay() -> bool {
    stays() || start(TO_STAY, turn_after_turn)
}

fn start(state: u32, run: extern "C" fn()) -> bool {
    if fault::refused(Call::Upkeep) || STATE.compare_exchange(NONE, state, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return false;
    }
    let started = thread::spawn(run);
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
extern "C" fn one_turn() {
    begin();
    if let Some(engine) = runtime::existing() {
        let own_table = descriptors::own_table().is_ok();
        let mut work = hold();
        work.lacks.set(Lack::Table, !own_table);
        work.turn(engine, if own_table { By::Thread } else { By::SlowPath });
    }
    STATE.store(NONE, Ordering::Release);
}

fn begin() {
    sys::schedule_ordinarily();
    sys::name_thread(c"kmem");
}

#[cold]
extern "C" fn turn_after_turn() {
    begin();
    sys::give_up_rights();
    let Some(engine) = runtime::existing() else { return STATE.store(NONE, Ordering::Release) };
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
        // A thread that switches upkeep off has the work meanwhile.
        if WANTED.load(Ordering::Relaxed) == OFF {
            drop(work);
            return end();
        }
        work.last_turn = engine.platform().now();
        let left = work.turn(engine, By::Thread);
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
