//! Free runs: bins by length, neighbours merged. All of it with the heap's lock held.
//!
//! Bins 0 to 63 hold free runs of exactly 1 to 64 granules; later bins hold longer ones by doubling. A search takes the
//! first run that is long enough, dirty ones first (their memory is there already). The first and the last entry of a
//! free run carry its kind and length, so a run that is freed finds its neighbours in O(1).

use super::heap::{PageHeap, State};
use super::table::{KIND_CLEAN, KIND_DIRTY, KIND_INNER, KIND_NONE, KIND_RAW};
use crate::sync::Ordering;

const EXACT: usize = 64;
pub(super) const BINS: usize = EXACT + 24;
/// No granule: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// The lists of bins.
pub(super) const DIRTY: usize = 0;
pub(super) const CLEAN: usize = 1;
const RAW: usize = 2;

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
    pub(super) fn take_free(&self, state: &mut State, want: usize) -> Option<(usize, usize, u32)> {
        for (list, kind) in [(DIRTY, KIND_DIRTY), (CLEAN, KIND_CLEAN), (RAW, KIND_RAW)] {
            for bin in bin_of(want)..BINS {
                let mut at = state.bins[list][bin];
                while at != NIL {
                    let entry = self.maps.entry(at as usize);
                    if entry.len() >= want {
                        let len = self.remove(state, at as usize);
                        return Some((at as usize, len, kind));
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

    pub(super) fn insert(&self, state: &mut State, first: usize, len: usize, kind: u32) {
        let list = list_of(kind);
        let head = state.bins[list][bin_of(len)];
        let entry = self.maps.entry(first);
        self.maps.entry(first + len - 1).set(KIND_INNER, len);
        entry.set(kind, len);
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

    pub(super) fn remove(&self, state: &mut State, first: usize) -> usize {
        let entry = self.maps.entry(first);
        let (list, len) = (list_of(entry.kind()), entry.len());
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
        len
    }

    /// Puts a run on its list, together with free neighbours of its kind. Others keep apart: a dirty megabyte must not
    /// make a clean gigabyte dirty, which would then be given back again and again. They come together when all are
    /// given back.
    pub(super) fn merge(&self, state: &mut State, mut first: usize, mut len: usize, kind: u32) {
        if let Some(head) = self.run_before(first).filter(|head| self.maps.entry(*head).kind() == kind) {
            len += self.remove(state, head);
            first = head;
        }
        if first + len < state.top && self.maps.entry(first + len).kind() == kind {
            len += self.remove(state, first + len);
        }
        self.insert(state, first, len, kind);
    }
}
