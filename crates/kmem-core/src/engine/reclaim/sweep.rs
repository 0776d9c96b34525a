//! Sweeps: frees release the memory that they leave behind, where no thread of the allocator's would do it later.
//!
//! A program that never made a thread shall have none of ours; and the last thing that it does may be a free, after which
//! it never calls again. So whatever is to be released has to be released by then. A free that missed, and whose objects
//! went back to their slabs, sees there how far the objects in use have fallen; where a [sweep](crate::slab) is due it
//! does a *piece* of one, after its own work, with no lock held: objects in the depot go to their slabs, empty slabs go,
//! and so do the free pages of slabs in use. The next free that misses goes on where this one ended.
//!
//! # What it costs
//! To release a page and to fault it in again costs as much as a hundred frees. Whether the program will use it again is
//! not known at a free, so frees have a [credit](crate::pages): what the process used for the first time, and a
//! twentieth of its time. Without credit nothing is swept. A piece is bounded: some slabs that are released, or eight times as many
//! that are looked at.
//!
//! Caches with a destructor are left alone: it is the user's code, and runs when the user shrinks or destroys the cache.

use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab::{Limit, Reclaim, Which};

/// With less credit, in bytes, no piece begins.
const LEAST: usize = 1 << 20;

impl<P: Platform> Engine<P> {
    /// Says whether frees release memory by themselves as long as nobody calls [`decay`](Self::decay). At first they do
    /// not.
    pub fn release_at_free(&self, wanted: bool) {
        self.heap.set_release_at_free(&self.platform, wanted);
    }

    /// Does a piece of a sweep. No lock is held, and the cache lives.
    #[cold]
    #[inline(never)]
    pub(crate) fn sweep_piece(&self, cache: &CacheDesc) {
        if cache.has_destructor() {
            return;
        }
        for node in cache.nodes() {
            if self.heap.credit(&self.platform, LEAST) < LEAST {
                node.slabs.end_piece(&self.platform, 0, true);
                continue;
            }
            let mut reclaim = Reclaim::new();
            let piece = node.slabs.next_piece(&self.platform);
            if piece.begins {
                // SAFETY: what is in a depot is nobody's, and of its cache.
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
