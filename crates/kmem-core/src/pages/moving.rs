//! Moving a large run: its pages change their address instead of being copied.
//!
//! A run that is to grow and has no room after it takes another one, and has its pages moved there. What it leaves is
//! raw: address space without memory. The new run's rest and the room after it come from the same move, so a source
//! that works with mappings has them in one, and can move that one again when the run has grown into its room. The run
//! never grows further than that in place, whatever is free there (a run with a large alignment has much room after
//! it): it would then be two mappings, which no source moves, and would be copied.
//!
//! If the source moves pages by changing mappings, moved ones stay apart from their neighbours for ever, and a process
//! may have only so many mappings. So a run remembers that it was *moved*; when it is freed its address space is
//! released (the run becomes raw, and is mapped afresh, in one piece with its neighbours, when it serves again), and
//! only so many runs may be moved at a time. Beyond that, they are copied, as they are where runs share pages: what is
//! raw there could not be committed again.

use super::state::{Found, PageHeap, State, Use};
use super::table::{GRANULE, KIND_CLEAN, KIND_DIRTY, KIND_NONE, KIND_RAW};
use super::{Owner, Run};
use crate::host::{Host, MoveError};
use crate::sync::Ordering;

/// Runs shorter than this (1 MiB) are copied as quickly.
pub(super) const MOVE_LEAST: usize = (1 << 20) / GRANULE;
/// A moved run begins at a multiple of this, if it is so long: from one such address to another its pages move 2 MiB at
/// a time, by their page tables.
const WHOLE: usize = 2 << 20;
/// A run that grew once will probably grow again: it is moved together with this part of it as room after it, which is
/// free for every thread, so nothing is lost if others take it.
const ROOM: usize = 4;
/// How many runs may be moved at a time: each costs four mappings at most (itself, its room, what was around both), of
/// 65,530 that Linux allows a process.
const MOVED_MAX: usize = 4096;

impl PageHeap {
    /// Moves a large run of `old` granules to a new, longer one of `new` granules. Returns `None` if there is no room
    /// for that, or it is not worth it; then the run stays as it was.
    ///
    /// # Safety
    /// The run is a large one that was handed out, and the caller's; no thread uses it meanwhile or afterwards. No
    /// allocator lock is held (I34).
    pub(crate) unsafe fn relocate<P: Host>(
        &self,
        platform: &P,
        address: usize,
        old: usize,
        new: usize,
        align: usize,
    ) -> Option<Run> {
        if old < MOVE_LEAST
            || new <= old
            || !self.could_hold(new, align)
            || platform.page_size() > GRANULE
            || self.state.lock(platform).moved >= MOVED_MAX
        {
            return None;
        }
        let run = self.place(platform, new, align)?;
        let kind = if run.zero { KIND_CLEAN } else { KIND_DIRTY };
        // SAFETY: both runs are the caller's by now, and different; the new one is longer.
        match unsafe { platform.move_pages(address, old * GRANULE, run.address, run.granules * GRANULE) } {
            Ok(()) => {}
            Err(MoveError::Refused) => {
                self.put_back(platform, run.address, run.granules, kind);
                return None;
            }
            Err(MoveError::Lost) => {
                self.put_back(platform, run.address, run.granules, KIND_RAW);
                return None;
            }
        }
        let moved = Run { granules: new, zero: false, ..run };
        // SAFETY: the run is new, and becomes the caller's.
        unsafe { self.set_large(&moved) };
        let first = (run.address - self.maps.base) / GRANULE;
        self.maps.entry(first).set_age(1);
        self.set_bound(first, first + run.granules);
        if run.granules > new {
            self.put_back(platform, run.address + new * GRANULE, run.granules - new, KIND_CLEAN);
        }
        // If the old one was moved as well, the new one is in its place.
        let again = self.take_moved(address);
        self.put_back(platform, address, old, KIND_RAW);
        if !again {
            self.state.lock(platform).moved += 1;
        }
        Some(moved)
    }

    /// Notes that the moved run which begins at granule `first` may grow up to granule `bound`. The entry of a large
    /// run has no other use for this place.
    pub(super) fn set_bound(&self, first: usize, bound: usize) {
        self.maps.entry(first).next.store(bound, Ordering::Relaxed);
    }

    /// Up to which granule the moved run at `first` may grow.
    pub(super) fn bound(&self, first: usize) -> usize {
        self.maps.entry(first).next.load(Ordering::Relaxed)
    }

    /// A run for what grows: longer by the room that it may take, if there is so much.
    fn place<P: Host>(&self, platform: &P, granules: usize, align: usize) -> Option<Run> {
        let whole = if granules * GRANULE < WHOLE { align } else { align.max(WHOLE) };
        self.search(platform, granules + granules / ROOM, whole, Use::Any)
            .or_else(|| self.search(platform, granules, whole, Use::Any))
            .or_else(|| self.alloc_for(platform, granules, align, Use::Any))
    }

    /// Whether the large run at `address` was moved; it no longer counts as such.
    pub(super) fn take_moved(&self, address: usize) -> bool {
        let entry = self.maps.entry((address - self.maps.base) / GRANULE);
        let moved = matches!(self.owner(address), Owner::Large(_)) && entry.age() > 0;
        if moved {
            entry.set_age(0);
        }
        moved
    }

    /// Frees a run, or a part of one, that is of this kind now. Returns what free runs hold [too
    /// much](super::bounds::Bounds::excess) by now.
    pub(super) fn put_back<P: Host>(&self, platform: &P, address: usize, granules: usize, kind: u32) -> usize {
        let first = (address - self.maps.base) / GRANULE;
        for granule in first..first + granules {
            self.maps.entry(granule).set(KIND_NONE, 0);
        }
        let mut state = self.state.lock(platform);
        let State { bounds, stats, .. } = &mut *state;
        bounds.note(stats);
        stats.used -= granules;
        if kind == KIND_RAW {
            stats.committed -= granules;
            stats.raw += granules;
        }
        self.merge(&mut state, Found { first, len: granules, kind, age: 0 });
        state.bounds.excess(&state.stats)
    }
}
