//! Upkeep: releasing what the process no longer needs, and following its CPUs.
//!
//! Objects that a CPU caches are of use while threads run there. A CPU that leaves (it went offline, or out of the
//! process's cpuset or affinity), one that is idle, a burst that is over: all leave memory that no miss will look at
//! again. So once a period of a quarter of a second a *turn* is taken:
//!
//! 1. CPUs that left are taken down ([`follow`](crate::follow));
//! 2. slots that were not used for a period are emptied (`Engine::age`);
//! 3. what is cached beyond the CPU budget is released, and under memory pressure all of it;
//! 4. what depots, slabs and free pages hold and did not need is released (`Engine::end_period`);
//! 5. what there is now is published for other processes to read ([`status`](crate::status)).
//!
//! # Nothing of ours is there
//! A thread of an allocator's is a guest that the program did not invite. It makes `unshare` and `setns` fail and warns
//! Python of forks. It keeps capabilities, and users, that the program gives up by calls which act on one thread, and
//! it escapes the seccomp filters that the program puts on its own threads; were it to put one on itself,
//! `seccomp(TSYNC)` would fail. libc's `set*id` ends the process where a thread of libc's gets another result than the
//! others, and libpsx waits for a thread that blocks its signal. A thread that lives for one turn would inherit the
//! rights and filters of the moment, but would then be killed, and the process with it, for the first call that a
//! sandbox does not list. So:
//!
//! ```text
//! process                            turns
//! any                                a part of one (2 and 4) on its own slow paths, with no system call but those of
//!                                    an allocation; 1, 3 and 5 do not happen
//! KMEM_UPKEEP=always                 a thread that stays, from the start of the process on
//! KMEM_UPKEEP=off                    none
//! ```
//! In an ordinary process frees release memory themselves, within bounds (`Engine::release_at_free`): the last thing
//! that it does may be a free, and no turn comes after it. In a process with threads a slow path empties the slots of
//! the CPU on which it runs, for which being there is a fence; those of others would take a system call (membarrier).
//! What slots cache on CPUs that fell idle therefore stays, up to the bounds of magazines, until their threads run
//! again, or `trim` is called. A process for which that counts asks for the thread. It is one that libc does not know
//! (`process::thread`), and it has no capabilities.
//!
//! # What a slow path looks at
//! [`poke`] is called on slow paths of alloc and free, with no lock of the engine held. It loads one word that hardly
//! ever changes: `QUIET` while a thread stays (or upkeep is off), else, or if another process
//! [asks](crate::control) for something, `ASK`; then each sixteenth looks at the clock,
//! which libc reads without a system call. Slow paths of free may hold locks of libc's: nothing here takes one.
//!
//! # Fork
//! The child has no thread of ours; `after_fork_in_child` sets everything here to its beginning. The state of the turns
//! may have been in the middle of one: it is made anew, not repaired, unless it is a turn of this very thread, which a
//! signal handler that forks has interrupted: that goes on. Inside fork handlers no turn is taken and no thread begins.

mod place;
mod state;
mod thread;
mod turn;

use kmem_core::Engine;
use kmem_core::platform::Clock;
use kmem_core::sync::{AtomicU32, Ordering};

use crate::control::{self, ASK, QUIET};
use crate::instance::existing;
use crate::os::environment::libc_is_ready;
use crate::platform::Linux;
use crate::process::{forking, lent};

use place::Taken;
pub(crate) use place::{hold, hold_soon};
pub use state::upkeep;
use state::{ALWAYS, CALL, OFF, PERIOD, WANTED, thread_is_there, wanted};
pub(crate) use turn::Work;

pub use crate::policy::Upkeep;

/// A process younger than this may be over at once, in nanoseconds.
const YOUNG: u64 = 50_000_000;
/// Slow paths until one of them looks what there is to do.
const EACH: u32 = 16;

static PASSED: AtomicU32 = AtomicU32::new(0);

/// Part of slow paths: sees to it that there is upkeep. No lock of the engine may be held.
#[inline(always)]
pub fn poke(engine: &'static Engine<Linux>) {
    if CALL.load(Ordering::Relaxed) == QUIET {
        return;
    }
    // Not added up atomically: a passing that is lost only delays what is asked for.
    let passed = PASSED.load(Ordering::Relaxed).wrapping_add(1);
    PASSED.store(passed, Ordering::Relaxed);
    if passed.is_multiple_of(EACH) {
        if control::is_asked() {
            obey(engine);
        }
        consider(engine);
    }
}

/// Called when the program starts, before its own code: starts the thread where it is wanted from the start on.
#[cold]
pub(crate) fn at_start(engine: &'static Engine<Linux>) {
    if wanted() == ALWAYS {
        consider(engine);
    }
}

/// Whether the calling thread may do anything but what its allocation needs.
#[cold]
#[inline(never)]
fn is_free(engine: &Engine<Linux>) -> bool {
    !engine.is_inside_callback() && !forking::is_under_way(engine) && libc_is_ready() && !lent::is_lent()
}

/// Carries out what another process asks for, unless a turn is under way. A function of its own, because both take a
/// part of a stack that is not ours.
#[cold]
#[inline(never)]
fn obey(engine: &'static Engine<Linux>) {
    if is_free(engine)
        && let Some(mut work) = Taken::try_take()
    {
        control::look(engine, &mut work);
    }
}

/// The time; frees may release memory from the first look on. A function of its own, so that the frame of a turn's
/// caller has no room for what only this needs.
#[cold]
#[inline(never)]
fn time(engine: &Engine<Linux>, is_first: bool) -> u64 {
    if is_first {
        engine.release_at_free(true);
    }
    engine.platform().now()
}

/// Takes a turn, or has one taken, if one is due.
#[cold]
#[inline(never)]
fn consider(engine: &'static Engine<Linux>) {
    if !is_free(engine) {
        return;
    }
    let Some(mut work) = Taken::try_take() else { return };
    let wanted = wanted();
    if wanted == OFF {
        return CALL.store(QUIET, Ordering::Relaxed);
    }
    let now = time(engine, work.born.is_none());
    let born = *work.born.get_or_insert(now);
    if wanted == ALWAYS {
        thread::see_to(&mut work, now);
    }
    if thread_is_there() {
        return CALL.store(QUIET, Ordering::Relaxed);
    }
    if now - born >= YOUNG && now - work.last_turn >= PERIOD {
        work.last_turn = now;
        work.turn_on_slow_path(engine);
    }
}

/// Switches upkeep off, or on with a thread that stays.
///
/// On: a thread named `kmem` follows CPUs that leave, empties idle ones, minds memory pressure and publishes the status
/// page, also while the program does nothing at all; it starts with the next slow path. Off: the thread ends within
/// half a second, frees no longer release memory by themselves, and what free pages hold beyond a little is released at
/// once. Waits for a turn that is under way, for up to a tenth of a second.
///
/// Without a call, the environment decides: `KMEM_UPKEEP=off`, `KMEM_UPKEEP=always` (a thread from the start on), or
/// neither: then upkeep is a matter of slow paths and frees. An embedder that drives CPUs itself calls
/// `kmem::hotplug` and [`trim`](crate::info::trim) in its own time.
///
/// ```
/// kmem::set_upkeep(false);
/// assert_eq!(kmem::upkeep(), kmem::Upkeep::Off);
/// ```
#[doc(alias = "background_thread")]
pub fn set_upkeep(on: bool) {
    WANTED.store(if on { ALWAYS } else { OFF }, Ordering::Relaxed);
    CALL.store(if on && !thread_is_there() { ASK } else { QUIET }, Ordering::Relaxed);
    let Some(engine) = existing() else { return };
    engine.release_at_free(on);
    if !on {
        // So that no turn which is under way counts on others to come.
        let _work = hold_soon();
        let _ = engine.no_decay();
    }
}

/// Takes down the CPUs that no thread of the process may run on, and brings up those that came back, on this thread,
/// with all listeners. Does nothing inside a hotplug callback, nor while a turn lasts longer than a tenth of a second.
pub fn track_affinity() {
    let Some(engine) = existing().filter(|engine| !engine.is_inside_callback()) else { return };
    if let Some(mut work) = hold_soon() {
        work.follow(engine);
    }
}

/// Sets everything to its beginning: this process has one thread, and no page.
pub(crate) fn after_fork_in_child() {
    thread::after_fork_in_child();
    control::after_fork_in_child();
    PASSED.store(0, Ordering::Relaxed);
    if WANTED.load(Ordering::Relaxed) != OFF {
        CALL.store(ASK, Ordering::Relaxed);
    }
    place::after_fork_in_child();
}
