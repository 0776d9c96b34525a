//! Free runs: bins by length, neighbours merged. All of it with the heap's lock held.
//!
//! Bins 0 to 63 hold free runs of exactly 1 to 64 granules; later bins hold longer ones by doubling. A search takes the
//! first run that is long enough, dirty ones first (their memory is there already). The first and the last entry of a
//! free run carry its kind and length, so a run that is freed finds its neighbours in O(1).
//!
//! A dirty run has an *age*: how many periods of decay it has seen. What is cut off of it keeps the age, and of runs
//! that come together the longer one's counts: a few granules that come and go beside a long run do not keep it young.

use super::heap::{PageHeap, State};
use super::table::{AGE_MAX, KIND_CLEAN, KIND_DIRTY, KIND_INNER, KIND_NONE, KIND_RAW};
use crate::sync::Ordering;

const EXACT: usize = 64;
pub(super) const BINS: usize = EXACT + 24;
/// No granule: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// The lists of bins.
pub(super) const DIRTY: usize = 0;
pub(super) const CLEAN: usize = 1;
const RAW: usize = 2;

/// A run that was free, and is on no list now.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) first: usize,
    pub(super) len: usize,
    pub(super) kind: u32,
    pub(super) age: u32,
}

impl Found {
    /// The same, some granules of it: as old as all of it was.
    pub(super) fn part(self, first: usize, len: usize) -> Self {
        Self { first, len, ..self }
    }
}

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
                let mut at = state.bins[list][bin];
                while at != NIL {
                    let entry = self.maps.entry(at as usize);
                    if entry.len() >= want {
                        return Some(self.remove(state, at as usize));
                    }
                    at = entry.next.load(Ordering::Relaxed) as u32;
                }
            }
        }
        None
    }

    /// The first granule of the free run that ends before `granule`.
    pub(super) fn run_before(&self, granule: usize) -> Option<usize> {
        // Nothing was ever handed out that the table does not reach to: there is an obstacle before it.
        if granule == self.maps.table_granules() || !self.maps.reaches(granule - 1) {
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

    /// Puts a run on its list, together with free neighbours of its kind. Others keep apart: a dirty megabyte must not
    /// make a clean gigabyte dirty, which would then be given back again and again. They come together when all are
    /// given back.
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
