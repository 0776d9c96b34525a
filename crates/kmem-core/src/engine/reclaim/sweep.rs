//! Sweeps: frees release the memory that they leave unused, in a process where no thread of the allocator would do it
//! later.
//!
//! A program that never made a thread gets none of ours; and its last use of the allocator may be a free. So whatever
//! is to be released has to be released by then. A free that missed, and whose objects returned to their slabs, sees
//! there how far the number of objects in use has fallen. If a [sweep](crate::slab) is due, the free does a *piece* of
//! one, after its own work, with no lock held: it reaps the depot, reclaims empty slabs, and purges the free pages of
//! slabs in use. The next free that misses continues where this one stopped.
//!
//! # What it costs
//! To release a page and fault it in again costs as much as a hundred frees. A free does not know whether the program
//! will use the page again, so frees have a [credit](crate::pages): what the process used for the first time, and a
//! fiftieth of its time; and none in a process that never used 16 MiB. Without credit nothing is swept. A piece is
//! bounded: by a number of slabs that are released, or eight times as many that are looked at.
//!
//! Caches with a destructor are skipped: it is the program's code, and runs when the program shrinks or destroys the
//! cache.

use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab::{Limit, Reclaim, Which};

/// No piece begins with less credit than this, in bytes.
const CREDIT_MIN: usize = 1 << 20;

impl<P: Platform> Engine<P> {
    /// Says whether frees release memory by themselves while [`decay`](Self::decay) is not called. At first they do
    /// not.
    pub fn release_at_free(&self, wanted: bool) {
        self.heap.set_release_at_free(&self.platform, wanted);
    }

    /// Does a piece of a sweep. The caller holds no lock, and the cache lives.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn sweep_piece(&self, cache: &CacheDesc) {
        if cache.has_destructor() {
            return;
        }
        for node in cache.nodes() {
            if self.heap.credit(&self.platform, CREDIT_MIN) < CREDIT_MIN {
                node.slabs.end_piece(&self.platform, 0, true);
                continue;
            }
            let mut reclaim = Reclaim::new();
            let piece = node.slabs.next_piece(&self.platform);
            if piece.begins {
                // SAFETY: objects in a depot are free, and of its cache.
                let put = |objects: &[usize], into: &mut Reclaim| unsafe { self.return_to_slabs(objects, into) };
                while node.depot.reap_one(&self.platform, |objects| put(objects, &mut reclaim)) {}
                node.depot.free_empty(&self.platform, &self.meta);
                node.slabs.reclaim_empty(&self.platform, true, &mut reclaim);
                self.reclaim(reclaim);
                reclaim = Reclaim::new();
            }
            let limit = Limit { slabs: 8 * piece.slabs, released: piece.slabs };
            let (bytes, _) = node.slabs.purge_pages(Which::Rest, limit, &self.env(), &mut reclaim);
            node.slabs.end_piece(&self.platform, bytes, false);
            self.heap.spend_credit(&self.platform, bytes);
            self.reclaim(reclaim);
        }
    }
}
