//! What is wanted of upkeep, and who takes the turns: words that slow paths look at.

use kmem_core::sync::{AtomicU32, Ordering};

use crate::control::AREA;
use crate::os::settings::{self, Setting};
use crate::policy::Upkeep;

/// In nanoseconds.
pub(super) const MILLISECOND: u64 = 1_000_000;
/// Between two turns, in nanoseconds.
pub(super) const PERIOD: u64 = 250_000_000;

/// Whether slow paths look at the clock, and whether anything was [asked](crate::control) for.
pub(super) const CALL: &AtomicU32 = &AREA.attention;

const UNREAD: u32 = 0;
pub(super) const OFF: u32 = 1;
const AUTO: u32 = 2;
pub(super) const ALWAYS: u32 = 3;

/// What is wanted.
pub(super) static WANTED: AtomicU32 = AtomicU32::new(UNREAD);

/// Whether there is a thread.
pub(super) const NONE: u32 = 0;
pub(super) const THERE: u32 = 1;

pub(super) static THREAD: AtomicU32 = AtomicU32::new(NONE);

/// Whether there is a thread.
pub(super) fn thread_is_there() -> bool {
    THREAD.load(Ordering::Acquire) == THERE
}

/// What is wanted: by the last [`set_upkeep`](super::set_upkeep), or by the environment.
pub(super) fn wanted() -> u32 {
    match WANTED.load(Ordering::Relaxed) {
        UNREAD => {
            let wanted = match settings::word(Setting::Upkeep) {
                Some("off") => OFF,
                Some("always") => ALWAYS,
                _ => AUTO,
            };
            WANTED.store(wanted, Ordering::Relaxed);
            wanted
        }
        known => known,
    }
}

/// How upkeep is taken care of at this moment.
///
/// ```
/// println!("{:?}", kmem::upkeep());
/// ```
pub fn upkeep() -> Upkeep {
    match WANTED.load(Ordering::Relaxed) {
        OFF => Upkeep::Off,
        _ if thread_is_there() => Upkeep::Thread,
        _ => Upkeep::SlowPaths,
    }
}
