//! When a node's slabs are worth a sweep.
//!
//! A sweep looks at all slabs that are partly in use, and purges the pages that hold only free objects. Where frees do
//! that themselves (see `reclaim/sweep.rs` of the engine), two facts decide what it costs and what it gains:
//!
//! - *How many objects were freed* says little: a program that frees and allocates in turn frees all day. What counts
//!   is how far the number of objects in use has **fallen** below the highest since the last sweep.
//! - *Pages become free late.* Of 64 objects on a page, freed in random order, the last decides; so the sweeps have to
//!   come closer together as the heap empties. A sweep is therefore due when the number has fallen by an eighth of what
//!   is left; by a quarter if the last sweep found next to nothing, and by a sixteenth if little is left of the heap.
//!
//! What stays after the last free is what was freed after the last sweep: some hundredths of the heap.

use super::node::{Lists, Node};
use crate::host::Host;

/// Slabs whose pages a piece of a sweep purges, and the most if the heap is nearly empty: 16 MiB.
const FEW: usize = 16;
const MANY: usize = 256;

/// How far the slabs of a node are from their next sweep.
#[derive(Clone, Copy, Default)]
pub(super) struct Sweep {
    /// Most objects in use since the last sweep.
    high: usize,
    /// Most objects in use ever.
    peak: usize,
    /// Whether a sweep is under way, in pieces.
    running: bool,
    /// Whether the last sweep found next to nothing.
    in_vain: bool,
    /// Bytes that the sweep under way released.
    released: usize,
}

impl Lists {
    /// Notes that more objects are in use.
    pub(super) fn has_risen(&mut self) {
        if self.stats.in_use > self.sweep.high {
            self.sweep.high = self.stats.in_use;
            self.sweep.peak = self.sweep.peak.max(self.sweep.high);
        }
    }

    /// Whether a sweep is due, or under way. `slab`: the objects of a slab, fewer than which are not worth one.
    pub(super) fn is_due(&self, slab: usize) -> bool {
        let Sweep { high, running, in_vain, .. } = self.sweep;
        let in_use = self.stats.in_use;
        let part = match (self.is_nearly_empty(), in_vain) {
            (true, _) => 16,
            (false, false) => 8,
            (false, true) => 4,
        };
        running || in_use + in_use / part + slab < high
    }

    fn is_nearly_empty(&self) -> bool {
        self.stats.in_use < self.sweep.peak / 8
    }
}

/// What a piece of a sweep is to do.
pub(crate) struct Piece {
    /// Whether it is the first.
    pub(crate) begins: bool,
    /// The most slabs whose pages it purges.
    pub(crate) slabs: usize,
}

impl Node {
    /// Begins a sweep, unless one is under way, and says what the next piece of it is to do.
    ///
    /// If little is left of the heap, few frees are still to come. So the pieces are larger there: the sweep has to be
    /// complete before the last free.
    pub(crate) fn next_piece<P: Host>(&self, platform: &P) -> Piece {
        let mut lists = self.lists.lock(platform);
        let begins = !core::mem::replace(&mut lists.sweep.running, true);
        if begins {
            lists.sweep.released = 0;
            lists.partial.cursor = lists.partial.head;
        }
        let slabs = if lists.is_nearly_empty() { (lists.stats.slabs / 8).clamp(FEW, MANY) } else { FEW };
        Piece { begins, slabs }
    }

    /// Notes what a piece of a sweep released, and ends the sweep at the end of the walk.
    pub(crate) fn end_piece<P: Host>(&self, platform: &P, bytes: usize, at_end: bool) {
        let mut lists = self.lists.lock(platform);
        lists.sweep.released += bytes;
        if at_end || lists.partial.cursor.is_none() {
            lists.sweep.running = false;
            lists.sweep.high = lists.stats.in_use;
            // Next to nothing: less than two pages of a slab, on average.
            lists.sweep.in_vain = lists.sweep.released < lists.stats.slabs * 8192;
        }
    }
}
