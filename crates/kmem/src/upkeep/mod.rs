//! Upkeep: what has to happen although nobody allocates.
//!
//! Objects that a CPU caches are of use while threads run there. A CPU that leaves (it went offline, or out of the
//! process's cpuset or affinity), one that is idle, a burst that is over: all leave memory behind that no miss will ever
//! look at again. So once a period of a quarter of a second somebody takes a *turn*:
//!
//! 1. the follower takes down CPUs that left ([`follow`](crate::follow));
//! 2. slots that nobody used for a period are emptied (`Engine::age`);
//! 3. what is cached beyond what the process is entitled to goes back, and under memory pressure all of it;
//! 4. what depots, slabs and free pages hold and nobody needs goes back (`Engine::decay`);
//! 5. what there is now is published for others to read ([`page`](crate::page)).
//!
//! # Who takes the turns
//! A thread named `kmem`, which lives while there is something to do: it ends when nothing is cached any more, and the
//! next slow path that caches something starts it again. A large process keeps it, and it looks twice a second: what is
//! freed at one stroke much later, with no alloc behind it, goes back too. Short programs never have it, and single-threaded ones only if
//! they are large, for a second thread makes libc take locks that it could do without, and some system calls refuse a
//! process with threads. A program without the thread (also where a limit forbids it) has its turns taken by its own
//! slow paths, at most one a period.
//!
//! ```text
//! process                            thread
//! single-threaded                    none; once it is 50 ms old, turns on slow paths
//! with 32 MiB of heap                the thread, however young the process is
//! with threads                       started when more than one CPU caches something, or when 50 ms old
//! KMEM_UPKEEP=always                 started as soon as libc is ready
//! KMEM_UPKEEP=off, set_upkeep(false) none, and no turns
//! ```
//!
//! So of a heap below 32 MiB some may stay: where a single-threaded program goes idle, where one with threads allocates in its
//! first 50 ms and on one CPU only, and where all that comes after a rest are frees. `KMEM_UPKEEP=always` (for the first
//! two) and `trim` are for those who mind.
//!
//! # The word that slow paths look at
//! [`poke`] is called at the beginning of slow paths of alloc, with no lock held. It loads one word that hardly ever
//! changes: `QUIET` while the thread lives (or upkeep is off), else `ASK`. Slow paths of free do not call it: libc frees
//! under the very lock that starting a thread takes.
//!
//! The thread ends in two steps: it says `ASK`, and takes one more turn. A slow path that passed the word before is long
//! through by then, and one that passes it after cancels the end.
//!
//! # Fork
//! The child has no thread; [`after_fork_in_child`] sets everything here to its beginning. The state of the turns may
//! have been in the middle of one: it is made anew, not repaired.

mod thread;
mod turn;

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use kmem_core::Engine;
use kmem_core::pages::GRANULE;
use kmem_core::platform::Clock;
use kmem_core::sync::{AtomicU32, Ordering};

use crate::follow::Lack;
use crate::linux::mode::{libc_is_ready, variable};
use crate::linux::{Linux, hot, sys};
use crate::runtime::existing;

pub(crate) use turn::{By, Work};

/// In nanoseconds.
const MILLISECOND: u64 = 1_000_000;
/// Between two turns, in nanoseconds.
pub(crate) const PERIOD: u64 = 250_000_000;
/// A process younger than this may be over at once, in nanoseconds.
const YOUNG: u64 = 50_000_000;
/// Bytes of heap from which on a thread is worth it in any process: it may have allocated all that it ever will.
const LARGE: usize = 32 << 20;
/// Slow paths until one of them looks what there is to do.
const EACH: u32 = 16;
/// Until a thread is asked for again that could not be had, in nanoseconds.
const RETRY: u64 = 10_000_000_000;

const QUIET: u32 = 0;
const ASK: u32 = 1;

static CALL: AtomicU32 = AtomicU32::new(ASK);
static PASSED: AtomicU32 = AtomicU32::new(0);

/// Where the thread stands.
const NONE: u32 = 0;
const ALIVE: u32 = 1;
const ENDING: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(NONE);

/// What is wanted.
const UNREAD: u32 = 0;
const OFF: u32 = 1;
const AUTO: u32 = 2;
const ALWAYS: u32 = 3;

static WANTED: AtomicU32 = AtomicU32::new(UNREAD);

/// The work, for one party at a time.
struct Place {
    taken: AtomicU32,
    work: UnsafeCell<Work>,
}

// SAFETY: who made `taken` 1 has the work alone.
unsafe impl Sync for Place {}

static PLACE: Place = Place { taken: AtomicU32::new(0), work: UnsafeCell::new(Work::new()) };

/// The work is the holder's; dropping this gives it back.
pub(crate) struct Taken(());

impl Taken {
    /// Takes the work, if nobody has it: also not this thread itself, further up in its stack.
    pub(crate) fn try_take() -> Option<Self> {
        PLACE.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok().then(|| Self(()))
    }
}

impl Deref for Taken {
    type Target = Work;
    fn deref(&self) -> &Work {
        // SAFETY: the work is the holder's.
        unsafe { &*PLACE.work.get() }
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Work {
        // SAFETY: as above, and this is borrowed uniquely.
        unsafe { &mut *PLACE.work.get() }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        PLACE.taken.store(0, Ordering::Release);
    }
}

/// The work, waiting for who has it: until it is dropped nobody takes a turn.
pub(crate) fn hold() -> Taken {
    loop {
        match Taken::try_take() {
            Some(taken) => return taken,
            None => sys::sleep(MILLISECOND),
        }
    }
}

/// The first thing on slow paths of alloc: sees to it that there is upkeep. No lock may be held.
#[inline(always)]
pub(crate) fn poke(engine: &'static Engine<Linux>) {
    if CALL.load(Ordering::Relaxed) == QUIET {
        return;
    }
    // Not added up atomically: a passing that is lost only delays what is asked for.
    let passed = PASSED.load(Ordering::Relaxed).wrapping_add(1);
    PASSED.store(passed, Ordering::Relaxed);
    if passed.is_multiple_of(EACH) || WANTED.load(Ordering::Relaxed) == ALWAYS {
        consider(engine);
    }
}

/// The work, if a turn that is under way ends within a tenth of a second: who asks may be called by that very turn.
pub(crate) fn hold_soon() -> Option<Taken> {
    (0..100).find_map(|_| {
        Taken::try_take().or_else(|| {
            sys::sleep(MILLISECOND);
            None
        })
    })
}

/// Starts the thread if it is worth it, or else takes a turn if one is due.
#[inline(never)]
fn consider(engine: &'static Engine<Linux>) {
    if engine.is_inside_callback() || !libc_is_ready() {
        return;
    }
    let Some(mut work) = Taken::try_take() else { return };
    let wanted = wanted();
    if wanted == OFF || STATE.load(Ordering::Acquire) == ALIVE {
        return CALL.store(QUIET, Ordering::Relaxed);
    }
    if STATE.compare_exchange(ENDING, ALIVE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        return CALL.store(QUIET, Ordering::Relaxed);
    }
    let threads = !hot::is_single_threaded();
    let spread = threads && engine.active_cpus().len() > 1;
    let now = engine.platform().now();
    let born = *work.born.get_or_insert(now);
    let old = now - born >= YOUNG;
    if wanted == ALWAYS || spread || old && threads || is_large(engine) {
        if now >= work.start_again && thread::start() {
            work.lacks.remove(Lack::Thread);
            return CALL.store(QUIET, Ordering::Relaxed);
        }
        if now >= work.start_again {
            work.lacks.add(Lack::Thread);
            work.start_again = now + RETRY;
        }
    }
    if old && now - work.last_turn >= PERIOD {
        work.last_turn = now;
        let _ = work.turn(engine, By::SlowPath);
    }
}

/// Whether the process keeps the thread although nothing is left to do.
fn is_large(engine: &Engine<Linux>) -> bool {
    engine.page_stats().committed * GRANULE >= LARGE
}

/// What is wanted: by the last [`set_upkeep`], or by the environment.
fn wanted() -> u32 {
    match WANTED.load(Ordering::Relaxed) {
        UNREAD => {
            let wanted = match variable(c"KMEM_UPKEEP") {
                Some(b"off") => OFF,
                Some(b"always") => ALWAYS,
                _ => AUTO,
            };
            WANTED.store(wanted, Ordering::Relaxed);
            wanted
        }
        known => known,
    }
}

/// Who takes the turns of upkeep in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Upkeep {
    /// Nobody: it was switched off.
    Off,
    /// The thread named `kmem`.
    Thread,
    /// Slow paths of the program's own threads.
    SlowPaths,
}

/// Who takes the turns of upkeep at this moment.
pub fn upkeep() -> Upkeep {
    match (WANTED.load(Ordering::Relaxed), STATE.load(Ordering::Relaxed)) {
        (OFF, _) => Upkeep::Off,
        (_, NONE) => Upkeep::SlowPaths,
        _ => Upkeep::Thread,
    }
}

/// Switches upkeep off, or on again: CPUs that left, idle CPUs and memory pressure are looked after or not. The thread,
/// if there is one, ends within half a second. What free pages hold beyond a little goes back at once; waits for a
/// turn that is under way, for up to a tenth of a second.
///
/// At first it is on, unless the environment says `KMEM_UPKEEP=off`; `KMEM_UPKEEP=always` starts the thread at once.
/// An embedder that drives CPUs itself calls [`hotplug`](crate::hotplug) and [`trim`](crate::trim) in its own time.
pub fn set_upkeep(on: bool) {
    WANTED.store(if on { AUTO } else { OFF }, Ordering::Relaxed);
    CALL.store(if on { ASK } else { QUIET }, Ordering::Relaxed);
    if !on && let Some(engine) = existing() {
        // So that no turn which is under way counts on others to come.
        let _work = hold_soon();
        let _ = engine.no_decay();
    }
}

/// Sets everything to its beginning: this process has one thread, and no page.
pub(crate) fn after_fork_in_child() {
    STATE.store(NONE, Ordering::Relaxed);
    PASSED.store(0, Ordering::Relaxed);
    if WANTED.load(Ordering::Relaxed) != OFF {
        CALL.store(ASK, Ordering::Relaxed);
    }
    // SAFETY: the process has this one thread, and it is in fork, not in a turn.
    unsafe { (*PLACE.work.get()).forget() };
    PLACE.taken.store(0, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::Taken;

    #[test]
    fn the_work_is_for_one_party_at_a_time() {
        let held = super::hold();
        assert!(Taken::try_take().is_none());
        assert!(Taken::try_take().is_none(), "who could not have it must not give it back");
        drop(held);
        assert!(Taken::try_take().is_some());
    }
}
