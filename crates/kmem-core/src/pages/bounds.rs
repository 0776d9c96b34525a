//! How much memory free runs may hold, in granules.
//!
//! Memory that was just given back will most likely be asked for again, and giving it back to the source to fault it in
//! anew costs a hundred times as much as to hand it out again. So where free runs [decay](super::purge) they may hold
//! as much as was *used at most of late*: who replaced large blocks for a while keeps what he needs for that, and a
//! quarter of it is forgotten each period. (A quarter more, for who frees all that he has: what was free before is
//! dirty besides.) Where nobody calls for decay they hold little, for they would do so for ever.
//!
//! | | with decay | without | without, released at free |
//! |---|---|---|---|
//! | a single run, when it is freed | 128 MiB | 32 MiB | 128 MiB |
//! | all free runs | 128 MiB, or 5/4 of the most used of late | 32 MiB | 1 MiB, or a 128th of what is used, while there is credit; else as with decay |
//! | all of them, when a run of [`EXCHANGE`] granules takes memory afresh | 32 MiB, or the most used of late | 8 MiB | as with decay |
//!
//! The last column is for a process in which no thread of the allocator's lives: frees release memory themselves, as
//! far as their [credit](super::credit) reaches.
//!
//! Shorter runs that take memory afresh, except for slabs that will be filled, exchange it beyond 8 MiB, or a sixteenth
//! of what is used: there are many sizes of them, and what one leaves is mostly too short for the next. Where objects
//! of 40 to 200 KiB come and go that is a fifth less memory, for a sixth more time.
//!
//! The last is for blocks that are too long for what is free: a process does not grow much by what it has but cannot
//! use. Where large blocks come and go in many sizes, to exchange always made them a hundred times as slow, and from a
//! quarter of the most on still five times, for a fifteenth less memory.

use super::PageStats;
use super::credit::Credit;
use super::table::GRANULE;

const fn mib(mib: usize) -> usize {
    (mib << 20) / GRANULE
}

/// Runs of at least so many granules (1 MiB) that take memory afresh give that much of dirty runs back, if these hold
/// more than [`Bounds::exchanges`] allows.
pub(super) const EXCHANGE: usize = mib(1);
/// No run up to this length is too long to hold its memory.
pub(super) const HOLDS: usize = mib(32);

/// What the bounds depend on.
pub(super) struct Bounds {
    /// Whether somebody calls for decay.
    decays: bool,
    /// Whether frees release memory themselves, where nobody calls for decay.
    at_free: bool,
    /// Granules that were used at most of late.
    most: usize,
    /// What frees may still release.
    credit: Credit,
}

impl Bounds {
    pub(super) const fn new() -> Self {
        Self { decays: false, at_free: false, most: 0, credit: Credit::new() }
    }

    pub(super) fn expect_decay(&mut self, expected: bool) {
        self.decays = expected;
    }

    pub(super) fn expects_decay(&self) -> bool {
        self.decays
    }

    pub(super) fn release_at_free(&mut self, wanted: bool, now: u64) {
        self.at_free = wanted;
        self.credit.begin(now);
    }

    /// Whether frees release memory themselves at this moment.
    pub(super) fn releases_at_free(&self) -> bool {
        self.at_free && !self.decays
    }

    /// The credit of frees.
    pub(super) fn credit(&mut self) -> &mut Credit {
        &mut self.credit
    }

    /// Notes how much is used, before less is.
    pub(super) fn note(&mut self, stats: &PageStats) {
        self.most = self.most.max(stats.used);
        self.credit.note(stats.used * GRANULE);
    }

    /// Ends a period of decay.
    pub(super) fn end_period(&mut self, stats: &PageStats) {
        self.most = (self.most - self.most / 4).max(stats.used);
    }

    /// The longest run that holds its memory when it is freed.
    pub(super) fn longest(&self) -> usize {
        if self.decays || self.at_free { mib(128) } else { HOLDS }
    }

    /// How much the free of a run of `freed` granules should release where frees do so: all that free runs hold, if
    /// that is more than a little, in a piece that is bounded by what was freed.
    pub(super) fn due_at_free(&self, stats: &PageStats, freed: usize) -> usize {
        let least = mib(1).max(stats.used / 128);
        if stats.dirty > least { stats.dirty.min(mib(1).max(2 * freed)) } else { 0 }
    }

    /// How much of what free runs hold is too much; beyond the bound half of it is, so that not every run that is freed
    /// from then on costs a call.
    pub(super) fn excess(&self, stats: &PageStats) -> usize {
        let most = if self.decays || self.at_free { mib(128).max(self.most + self.most / 4) } else { mib(32) };
        if stats.dirty > most { stats.dirty - most / 2 } else { 0 }
    }

    /// Whether free runs hold so much that a process which cannot use it shall not grow by so many granules as well.
    pub(super) fn exchanges(&self, stats: &PageStats, granules: usize) -> bool {
        if granules < EXCHANGE {
            return stats.dirty > mib(8).max(stats.used / 16);
        }
        stats.dirty > if self.decays || self.at_free { mib(32).max(self.most).max(stats.used) } else { mib(8) }
    }
}
