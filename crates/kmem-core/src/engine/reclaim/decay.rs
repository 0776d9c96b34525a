//! Decay: what was not needed for a while goes back, without any traffic.
//!
//! Memory comes home floor by floor, and each floor keeps some of it, for it will most likely be wanted again:
//! ```text
//! slots -> depot: full magazines -> slabs: objects, then empty slabs -> pages: dirty runs -> the page source
//! ```
//! [`Engine::decay`] is called once a *period* by whoever does upkeep. Depots and slabs note the least that they held
//! since the last call: so much nobody needed all through the period, and that goes one floor down. Of slabs that are in
//! use and were not touched for a period, the pages go back that hold free objects only. Free runs count the periods that
//! they have seen, and hold memory for a few of them. What is in use, or comes and goes within a period,
//! stays (memory is not given back just to be faulted in again). Slots are the business of who knows about CPUs (see [`percpu`](crate::percpu)).
//!
//! The [areas](crate::cpu) of CPUs that went down go back too. One thread calls it, with no lock held. It waits for no
//! transition; it holds a lock of the
//! engine for at most a batch of work (I41), and none while memory goes back (I34). A cache is pinned while its turn
//! lasts, so a destroy of it waits for that much. Caches with a destructor are left alone: it is somebody's code, which
//! runs on threads of his, when he frees, shrinks, trims or destroys (I31). Objects of a cache with a constructor only are
//! like others: what was constructed on pages that go back counts as raw, and is constructed again when it is handed out.

use super::kept_areas;
use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab::{Limit, Reclaim, Which};

/// Partly used slabs of a cache on a node that are looked at in a period: 256 MiB of them, if they are of the usual
/// size.
const LOOK: usize = 4096;

/// What a period of decay did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "it says whether another period is worth its wake-up"]
pub struct Decayed {
    /// Bytes whose memory went back to the page source.
    pub bytes: usize,
    /// Whether anything is kept that a later period may give back. If not, nothing will be until caches are used again.
    pub left: bool,
}

impl<P: Platform> Engine<P> {
    /// Ends a period: gives back what depots, slabs and free runs held all through it and nobody needed.
    ///
    /// One thread at a time calls this, once a period (a quarter of a second is a good one), with no lock held; not
    /// from hotplug callbacks, constructors or destructors. Costs O(caches) where nothing is to be done.
    ///
    /// From the first call on the engine counts on it, and lets free runs hold more memory between two calls. Whoever
    /// stops calling for good says so by [`no_decay`](Self::no_decay).
    pub fn decay(&self) -> Decayed {
        self.heap.expect_decay(&self.platform, true);
        self.end_period()
    }

    /// The same for a caller who promises nothing of later calls: the bounds of what is kept stay those of an engine
    /// without decay.
    pub fn end_period(&self) -> Decayed {
        let mut all = Decayed::default();
        self.registry.for_each(&self.platform, |cache| {
            if !cache.has_destructor() {
                let decayed = self.decay_cache(cache);
                all.bytes += decayed.bytes;
                all.left |= decayed.left;
            }
        });
        let areas_left = self.unmap_kept_areas(kept_areas::PERIODS);
        let (bytes, left) = self.heap.decay(&self.platform);
        Decayed { bytes: all.bytes + bytes, left: all.left | left | areas_left }
    }

    /// Nobody will call [`decay`](Self::decay) any more: what free runs hold beyond a little goes back now, and in future
    /// as soon as it is freed.
    pub fn no_decay(&self) -> Decayed {
        self.heap.expect_decay(&self.platform, false);
        self.unmap_kept_areas(0);
        Decayed { bytes: self.heap.purge(&self.platform), left: false }
    }

    /// The part of one cache, which is pinned.
    fn decay_cache(&self, cache: &CacheDesc) -> Decayed {
        let (mut bytes, mut left) = (0, false);
        for node in cache.nodes() {
            let mut reclaim = Reclaim::new();
            let (idle, others) = node.depot.idle(&self.platform);
            for _ in 0..idle {
                // Never in this thread's hands alone: a destroy beside this would count them as in use (I16).
                // SAFETY: what is in a depot is nobody's, and of its cache.
                node.depot.reap_one(&self.platform, |objects| unsafe { self.return_to_slabs(objects, &mut reclaim) });
            }
            if idle > 0 || !others {
                node.depot.free_empty(&self.platform, &self.meta);
            }
            left |= others;
            self.reclaim(reclaim);
        }
        for node in cache.nodes() {
            let mut reclaim = Reclaim::new();
            left |= node.slabs.reclaim_idle(&self.platform, &mut reclaim);
            self.reclaim(reclaim);
            let mut reclaim = Reclaim::new();
            let (pages, more) = node.slabs.purge_pages(Which::Untouched, Limit::slabs(LOOK), &self.env(), &mut reclaim);
            self.reclaim(reclaim);
            bytes += pages;
            left |= more;
        }
        Decayed { bytes, left }
    }

    /// Gives all free pages of partly used slabs back at once; answers the bytes. The cache is pinned.
    #[cold]
    pub(crate) fn purge_pages(&self, cache: &CacheDesc) -> usize {
        if cache.has_destructor() {
            // What its constructor made is in free objects too, and must be ended.
            return 0;
        }
        let (mut bytes, mut reclaim) = (0, Reclaim::new());
        for node in cache.nodes() {
            // Each is looked at once, and once again where it comes to stand at the end.
            let limit = Limit::slabs(2 * node.slabs.stats(&self.platform).slabs);
            bytes += node.slabs.purge_pages(Which::All, limit, &self.env(), &mut reclaim).0;
        }
        self.reclaim(reclaim);
        bytes
    }
}
