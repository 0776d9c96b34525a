//! Free runs: bins by length, neighbours merged. All of it with the heap's lock held.
//!
//! Bins 0 to 63 hold free runs of exactly 1 to 64 granules; later bins hold longer ones by doubling. A search takes the
//! shortest run that is long enough, of some; dirty ones first (their memory is there already). The first and the last
//! entry of a free run carry its kind and length, so a run that is freed finds its neighbours in O(1).
//!
//! A dirty run has an *age*: how many periods of decay it has seen. What is cut off of it keeps the age, and of runs
//! that come together the longer one's counts: a few granules that come and go beside a long run do not keep it young.

use super::state::{BINS, CLEAN, DIRTY, EXACT, Found, NIL, PageHeap, RAW, State};
use super::table::{AGE_MAX, GRANULE, KIND_CLEAN, KIND_DIRTY, KIND_INNER, KIND_NONE, KIND_RAW};
use crate::host::PageSource;
use crate::sync::Ordering;

/// Runs on a list that are compared: what large blocks leave of the others is then long enough for large blocks.
const RUNS_COMPARED: usize = 32;

fn list_of(kind: u32) -> usize {
    match kind {
        KIND_DIRTY => DIRTY,
        KIND_CLEAN => CLEAN,
        _ => RAW,
    }
}

fn bin_of(len: usize) -> usize {
    if len <= EXACT { len - 1 } else { (EXACT + (len / EXACT).ilog2() as usize).min(BINS - 1) }
}

impl PageHeap {
    pub(super) fn take_free(&self, state: &mut State, want: usize) -> Option<Found> {
        for list in [DIRTY, CLEAN, RAW] {
            for bin in bin_of(want)..BINS {
                if let Some(first) = self.best_of(state.bins[list][bin], want) {
                    return Some(self.remove(state, first));
                }
            }
        }
        None
    }

    /// Of the runs on a list, the shortest that is long enough, and of those the first in the window; as far as the
    /// first [`RUNS_COMPARED`] of them show, or else the next one that is long enough.
    fn best_of(&self, head: u32, want: usize) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let (mut at, mut looks) = (head, 0);
        while at != NIL && (best.is_none() || looks < RUNS_COMPARED) {
            let entry = self.maps.entry(at as usize);
            let run = (entry.len(), at as usize);
            if run.0 >= want && best.is_none_or(|best| run < best) {
                best = Some(run);
            }
            at = entry.next.load(Ordering::Relaxed) as u32;
            looks += 1;
        }
        best.map(|(_, first)| first)
    }

    /// Puts back what is left of a run of which the granules from `start` to `end` are handed out, and set aside. What
    /// gets its memory together with those is dirty by that, so it is purged like other dirty runs if it is not needed.
    pub(super) fn leave<P: PageSource>(&self, platform: &P, state: &mut State, found: Found, start: usize, end: usize) {
        let Found { first, len, kind, .. } = found;
        let (mut from, mut to) = (start, end);
        if kind == KIND_CLEAN {
            from = self.unit_first(platform, start).max(first);
            to = self.unit_end(platform, end).min(first + len);
        }
        let clean = [(first, from), (to, first + len)].map(|(first, end)| found.part(first, end - first));
        let dirty =
            [(from, start), (end, to)].map(|(first, end)| Found { first, len: end - first, kind: KIND_DIRTY, age: 0 });
        dirty.iter().filter(|run| run.len > 0).for_each(|run| self.set_aside(run.first, run.len));
        for run in clean.into_iter().chain(dirty).filter(|run| run.len > 0) {
            self.merge(state, run);
        }
    }

    /// The first granule that gets its memory together with granule `at`.
    fn unit_first<P: PageSource>(&self, platform: &P, at: usize) -> usize {
        let address = self.maps.address_of(at);
        at.saturating_sub((address & (platform.unit(address) - 1)) / GRANULE)
    }

    /// The end of what gets its memory together with the last granule before `end`.
    pub(super) fn unit_end<P: PageSource>(&self, platform: &P, end: usize) -> usize {
        let address = self.maps.address_of(end);
        end + (address.next_multiple_of(platform.unit(address - GRANULE)) - address) / GRANULE
    }

    /// The first granule of the free run that ends before `granule`.
    pub(super) fn run_before(&self, granule: usize) -> Option<usize> {
        // Nothing was ever handed out that the table does not reach to: there is an obstacle before it.
        if granule == 0 || !self.maps.reaches(granule - 1) {
            return None;
        }
        let last = self.maps.entry(granule - 1);
        match last.kind() {
            KIND_INNER => Some(granule - last.len()),
            KIND_DIRTY | KIND_CLEAN | KIND_RAW => Some(granule - 1),
            _ => None,
        }
    }

    /// Puts a run on its list.
    pub(super) fn insert(&self, state: &mut State, run: Found) {
        let Found { first, len, kind, age } = run;
        let list = list_of(kind);
        let head = state.bins[list][bin_of(len)];
        let entry = self.maps.entry(first);
        self.maps.entry(first + len - 1).set(KIND_INNER, len);
        entry.set(kind, len);
        entry.set_age(age);
        entry.prev.store(NIL, Ordering::Relaxed);
        entry.next.store(head as usize, Ordering::Relaxed);
        if head != NIL {
            self.maps.entry(head as usize).prev.store(first as u32, Ordering::Relaxed);
        }
        state.bins[list][bin_of(len)] = first as u32;
        match list {
            DIRTY => state.stats.dirty += len,
            CLEAN => state.stats.clean += len,
            _ => {}
        }
    }

    /// Takes the run off its list that begins here.
    pub(super) fn remove(&self, state: &mut State, first: usize) -> Found {
        let entry = self.maps.entry(first);
        let found = Found { first, len: entry.len(), kind: entry.kind(), age: entry.age() };
        let (list, len) = (list_of(found.kind), found.len);
        let (prev, next) = (entry.prev.load(Ordering::Relaxed), entry.next.load(Ordering::Relaxed) as u32);
        if prev == NIL {
            state.bins[list][bin_of(len)] = next;
        } else {
            self.maps.entry(prev as usize).next.store(next as usize, Ordering::Relaxed);
        }
        if next != NIL {
            self.maps.entry(next as usize).prev.store(prev, Ordering::Relaxed);
        }
        entry.set(KIND_NONE, 0);
        self.maps.entry(first + len - 1).set(KIND_NONE, 0);
        match list {
            DIRTY => state.stats.dirty -= len,
            CLEAN => state.stats.clean -= len,
            _ => {}
        }
        found
    }

    /// Lets every dirty run of a bin see another period of decay.
    pub(super) fn age_bin(&self, state: &mut State, bin: usize) {
        let mut at = state.bins[DIRTY][bin];
        while at != NIL {
            let entry = self.maps.entry(at as usize);
            entry.set_age((entry.age() + 1).min(AGE_MAX));
            at = entry.next.load(Ordering::Relaxed) as u32;
        }
    }

    /// Takes a dirty run of a bin off that has seen [`AGE_MAX`] periods.
    pub(super) fn take_old(&self, state: &mut State, bin: usize) -> Option<Found> {
        let mut at = state.bins[DIRTY][bin];
        while at != NIL {
            let entry = self.maps.entry(at as usize);
            if entry.age() == AGE_MAX {
                return Some(self.remove(state, at as usize));
            }
            at = entry.next.load(Ordering::Relaxed) as u32;
        }
        None
    }

    /// Marks a part of a free run as being on no list: its neighbours do not merge with it.
    pub(super) fn set_aside(&self, first: usize, len: usize) {
        for end in [first, first + len - 1] {
            self.maps.entry(end).set(KIND_NONE, 0);
        }
    }

    /// Puts a run on its list, together with free neighbours of its kind. Other kinds stay apart: a dirty megabyte must
    /// not make a clean gigabyte dirty, which would then be purged again and again. They come together when all are
    /// purged.
    pub(super) fn merge(&self, state: &mut State, mut run: Found) {
        if let Some(head) = self.run_before(run.first).filter(|head| self.maps.entry(*head).kind() == run.kind) {
            let before = self.remove(state, head);
            run = Found { first: head, len: before.len + run.len, age: longer(before, run).age, ..run };
        }
        let end = run.first + run.len;
        if end < state.top && self.maps.entry(end).kind() == run.kind {
            let behind = self.remove(state, end);
            run = Found { len: run.len + behind.len, age: longer(behind, run).age, ..run };
        }
        self.insert(state, run);
    }
}

fn longer(neighbour: Found, run: Found) -> Found {
    if neighbour.len > run.len { neighbour } else { run }
}
