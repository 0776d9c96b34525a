//! Whether memory is short: for the machine, or for the process's control group.
//!
//! The kernel counts for how long tasks waited for memory (pressure stall information), and how often a group met its
//! limits (`memory.events`, or the `memory.failcnt` of version 1, of the group and of those that it is in). If either
//! grew a good deal since the last turn, memory is short *now*.

use super::cgroup::{each_group, number, number_after};
use super::unavailable::{Unavailable, UnavailableSet};
use crate::os::fault::{self, Call};
use crate::os::sys;

/// Microseconds of waiting in a turn from which on memory is short: a tenth of a turn.
const STALL: u64 = 25_000;

/// What the counters were a turn ago.
pub(crate) struct Pressure {
    seen: Option<Counters>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counters {
    /// Microseconds for which some task waited.
    stalled: Option<u64>,
    /// Times that the group was at its limit.
    limited: Option<u64>,
}

impl Pressure {
    pub(crate) const fn new() -> Self {
        Self { seen: None }
    }

    /// Whether memory is short, by what was counted since the last call.
    pub(crate) fn is_high(&mut self, unavailable: &mut UnavailableSet) -> bool {
        let now = Counters::read();
        unavailable.set(Unavailable::Pressure, now == Counters::default());
        self.seen.replace(now).is_some_and(|before| now.is_high_since(&before))
    }
}

impl Counters {
    fn read() -> Self {
        let mut now = Self::default();
        each_group(b"", b"memory.pressure", |text, _| {
            now.stalled = number_after(text, b"total=");
            false
        });
        each_group(b"", b"memory.events", |text, _| {
            now.limited = Some(number_after(text, b"high ").unwrap_or(0) + number_after(text, b"max ").unwrap_or(0));
            false
        });
        let mut failures = None;
        each_group(b"memory", b"memory.failcnt", |text, _| {
            failures = number(text).map(|count| failures.unwrap_or(0) + count).or(failures);
            true
        });
        now.limited = now.limited.or(failures);
        if now.stalled.is_none() && !fault::refused(Call::Cgroup) {
            let mut text = [0; 256];
            let len = sys::read_file(c"/proc/pressure/memory", &mut text).unwrap_or(0);
            now.stalled = number_after(&text[..len], b"total=");
        }
        now
    }

    fn is_high_since(&self, before: &Self) -> bool {
        let grew =
            |now: Option<u64>, before: Option<u64>| now.zip(before).map_or(0, |(now, then)| now.saturating_sub(then));
        grew(self.stalled, before.stalled) >= STALL || grew(self.limited, before.limited) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_counted_in_either_version() {
        let has = |path: &str| std::fs::read(path).is_ok();
        if !has("/sys/fs/cgroup/memory/memory.failcnt") {
            return std::println!("skipped: no memory controller of version 1 here");
        }
        let before = Counters::read();
        assert!(before.limited.is_some());
        let later = Counters { limited: before.limited.map(|count| count + 1), ..before };
        assert!(later.is_high_since(&before) && !before.is_high_since(&before));
    }

    #[test]
    fn only_what_grew_since_counts() {
        let at = |stalled, limited| Counters { stalled, limited };
        let high = |before: Counters, now: Counters| now.is_high_since(&before);
        assert!(!high(at(Some(9_000_000), Some(7)), at(Some(9_000_100), Some(7))));
        assert!(high(at(Some(0), None), at(Some(STALL), None)));
        assert!(high(at(Some(0), Some(7)), at(Some(0), Some(8))));
        assert!(!high(at(None, None), at(Some(STALL), Some(8))), "a first look knows no before");
    }
}
