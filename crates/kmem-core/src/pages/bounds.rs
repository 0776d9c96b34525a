//! How much memory free runs may hold, in granules.
//!
//! Memory that was just freed will probably be requested again, and to purge it and fault it in again costs a hundred
//! times as much as to hand it out again. So if free runs [decay](super::purge) they may hold as much as was *used at
//! most of late*: a program that keeps replacing large blocks keeps what it needs for that, and this limit shrinks by a
//! quarter each period. (It is a quarter more than the most used, because freeing everything adds to what was already
//! free and dirty.) Without decay they hold little, since nothing would ever release the rest.
//!
//! | | with decay | without | without, released at free |
//! |---|---|---|---|
//! | a single run, when it is freed | 128 MiB | 32 MiB | 128 MiB |
//! | all free runs | 128 MiB, or 5/4 of the most used of late | 32 MiB | 1 MiB, or a 128th of what is used |
//! | all of them, at an *exchange* | 32 MiB, or the most used of late | 8 MiB | as with decay |
//!
//! An exchange is a run of [`EXCHANGE`] granules or more that takes memory afresh.
//!
//! The last column is for a process without a thread of the allocator: frees release memory themselves, as far as their
//! [credit](super::credit) reaches. Where it does not, the bound on all free runs is that of decay.
//!
//! Shorter runs that take memory afresh, except for slabs that will be filled, exchange it beyond 8 MiB, or a sixteenth
//! of what is used: there are many sizes of them, and what one leaves is mostly too short for the next. If objects of
//! 40 to 200 KiB come and go, that is a fifth less memory for a sixth more time.
//!
//! The last row is for blocks that are too long for what is free: a process should not grow much by memory that it has
//! but cannot use. Exchanging always made workloads with many sizes of large blocks a hundred times slower; exchanging
//! only above a quarter of the most used was still five times slower, and saved a fifteenth of the memory.

use super::PageStats;
use super::credit::Credit;
use super::table::GRANULE;

const fn mib(mib: usize) -> usize {
    (mib << 20) / GRANULE
}

/// Runs of at least so many granules (1 MiB) that take memory afresh release that much of dirty runs, if these hold
/// more than [`Bounds::exchanges`] allows.
pub(super) const EXCHANGE: usize = mib(1);
/// No run up to this length is too long to hold its memory.
pub(super) const HOLDS: usize = mib(32);

/// What the bounds depend on.
pub(super) struct Bounds {
    /// Whether decay is called.
    decays: bool,
    /// Whether frees release memory themselves while decay is not called.
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

    /// Whether free runs hold so much that a process which cannot use it should not grow by so many granules as well.
    pub(super) fn exchanges(&self, stats: &PageStats, granules: usize) -> bool {
        if granules < EXCHANGE {
            return stats.dirty > mib(8).max(stats.used / 16);
        }
        stats.dirty > if self.decays || self.at_free { mib(32).max(self.most).max(stats.used) } else { mib(8) }
    }
}
