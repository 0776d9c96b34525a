//! What the page heap is made of: its state, and the runs that its parts pass to each other.

use super::bounds::Bounds;
use super::mix::Mix;
use super::table::{GRANULE, Maps};
use crate::sync::{AtomicU32, Mutex};
use core::fmt;

/// Granules committed at a time: 2 MiB, what a transparent huge page covers.
pub(super) const COMMIT_STEP: usize = (2 << 20) / GRANULE;
/// Places tried when something else lies in the window's way (the window is claimed, not held).
pub(super) const COMMIT_TRIES: usize = 64;

/// Bins of free runs of exactly so many granules, from one on.
pub(super) const EXACT: usize = 64;
/// Bins of a list.
pub(super) const BINS: usize = EXACT + 24;
/// No granule: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// The lists of bins.
pub(super) const DIRTY: usize = 0;
pub(super) const CLEAN: usize = 1;
pub(super) const RAW: usize = 2;

/// A run of granules that was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Address of the first byte.
    pub address: usize,
    /// Length in granules.
    pub granules: usize,
    /// Whether all of it is known to read as zero.
    pub zero: bool,
}

/// What is known of how a run will be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// All of it soon, and what lies around it in the same way: slabs of small objects, of a cache that has some
    /// already.
    Dense,
    /// Nothing: large objects may be used in part, or not at all, and of a cache's first slabs little.
    Any,
}

/// What the heap holds, in granules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageStats {
    /// Committed so far.
    pub committed: usize,
    /// In free runs that still hold memory.
    pub dirty: usize,
    /// In free runs that were purged.
    pub clean: usize,
    /// Handed out.
    pub used: usize,
    /// In free runs that have to be committed before they serve again.
    pub raw: usize,
    /// Skipped, because something else was mapped there.
    pub skipped: usize,
}

pub(super) struct State {
    /// Heads of the bins: dirty, clean, raw.
    pub(super) bins: [[u32; BINS]; 3],
    /// First granule never handed out.
    pub(super) top: usize,
    /// First granule not committed.
    pub(super) committed: usize,
    pub(super) bounds: Bounds,
    /// What the untouched rest is handed out for.
    pub(super) mix: Mix,
    /// Large runs that were [`moved`](super::moving).
    pub(super) moved: usize,
    pub(super) stats: PageStats,
}

/// The page heap of one engine.
pub struct PageHeap {
    pub(super) maps: Maps,
    pub(super) state: Mutex<State>,
    /// 1 if frees may release memory by themselves.
    pub(super) at_free: AtomicU32,
}

impl fmt::Debug for PageHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageHeap")
            .field("base", &self.maps.base)
            .field("granules", &self.maps.granules)
            .finish_non_exhaustive()
    }
}

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

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const MAPS: usize = offset_of!(PageHeap, maps);
    pub(crate) const TOP: usize = offset_of!(PageHeap, state) + Mutex::<State>::DATA + offset_of!(State, top);
    pub(crate) const COMMITTED: usize =
        offset_of!(PageHeap, state) + Mutex::<State>::DATA + offset_of!(State, stats.committed);
    pub(crate) const DIRTY: usize = offset_of!(PageHeap, state) + Mutex::<State>::DATA + offset_of!(State, stats.dirty);
    pub(crate) const CLEAN: usize = offset_of!(PageHeap, state) + Mutex::<State>::DATA + offset_of!(State, stats.clean);
}
