//! Decay: what was not needed for a while is released, without any traffic.
//!
//! Memory goes back step by step (see [the head](super)), and each step keeps some of it, because it will probably be
//! needed again:
//! ```text
//! slots -> depot: full magazines -> slabs: objects, then empty slabs -> pages: dirty runs -> the page source
//! ```
//! [`Engine::decay`] is called once a *period* by the embedder. Depots and slabs note the least that they held since
//! the last call: that much was not needed at any time of the period, and takes the next step. Of slabs that are in use
//! and were not touched for a period, the pages are purged that hold only free objects. Free runs count the periods
//! that they have seen, and keep their memory for a few of them. What is in use, or comes and goes within a period,
//! stays: memory is not released only to be faulted in again. Slots are drained by [ageing](Engine::age).
//!
//! The [areas](crate::cpu) of CPUs that went down are unmapped too. One thread calls decay, with no lock held. It waits
//! for no transition; it holds a lock of the engine for at most a batch of work (I41), and none while memory is
//! released (I34). A cache is pinned during its turn, so a concurrent destroy waits for that long. Caches with a
//! destructor are skipped, because a destructor is the program's code, which runs on the program's threads when they
//! free, shrink, trim or destroy (I31). Objects of a cache with only a constructor are like others: what was
//! constructed on pages that are purged counts as raw, and is constructed again when it is handed out.

use super::kept_areas;
use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab::{Limit, Reclaim, Which};

/// Partly used slabs of a cache on a node that are looked at in a period: 256 MiB of them, if they are of the usual
/// size.
const SLABS_A_PERIOD: usize = 4096;

/// What a period of decay did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "it says whether another period is worth its wake-up"]
pub struct Decayed {
    /// Bytes that were released to the page source.
    pub bytes: usize,
    /// Whether anything is kept that a later period may release. If not, nothing will be until caches are used again.
    pub left: bool,
}

impl<P: Platform> Engine<P> {
    /// Ends a period: releases what depots, slabs and free runs held all through it and was not needed.
    ///
    /// One thread at a time calls this, once a period (a quarter of a second is a good one), with no lock held, and not
    /// from hotplug callbacks, constructors or destructors. Costs O(caches used lately), and a look at each other one.
    ///
    /// From the first call on the engine relies on it, and lets free runs hold more memory between two calls. A caller
    /// that stops for good says so by [`no_decay`](Self::no_decay).
    pub fn decay(&self) -> Decayed {
        self.heap.expect_decay(&self.platform, true);
        self.end_period()
    }

    /// The same for a caller that promises no later calls: what is kept is bounded as in an engine without decay.
    pub fn end_period(&self) -> Decayed {
        let mut all = Decayed::default();
        self.registry.for_each_awake(&self.platform, |cache| {
            if !cache.has_destructor() {
                cache.rest.begin();
                let decayed = self.decay_cache(cache);
                if decayed.left || cache.each_holder().next().is_some() {
                    cache.rest.wake();
                }
                all.bytes += decayed.bytes;
                all.left |= decayed.left;
            }
        });
        let areas_left = self.unmap_kept_areas(kept_areas::PERIODS);
        let (bytes, left) = self.heap.decay(&self.platform);
        Decayed { bytes: all.bytes + bytes, left: all.left | left | areas_left }
    }

    /// Says that [`decay`](Self::decay) will not be called again: what free runs hold beyond a little is purged now,
    /// and in future as soon as it is freed.
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
                // The objects are never in this thread's hands alone: a concurrent destroy would count them as in use
                // (I16).
                // SAFETY: objects in a depot are free, and of its cache.
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
            let (pages, more) =
                node.slabs.purge_pages(Which::Untouched, Limit::slabs(SLABS_A_PERIOD), &self.env(), &mut reclaim);
            self.reclaim(reclaim);
            bytes += pages;
            left |= more;
        }
        Decayed { bytes, left }
    }

    /// Purges all free pages of partly used slabs at once. Returns the bytes. The cache is pinned.
    #[cold]
    pub(super) fn purge_pages(&self, cache: &CacheDesc) -> usize {
        if cache.has_destructor() {
            // What the constructor made is in free objects too, and would have to be destructed.
            return 0;
        }
        let (mut bytes, mut reclaim) = (0, Reclaim::new());
        for node in cache.nodes() {
            // Each slab is looked at once, and once again when it has moved to the end of the list.
            let limit = Limit::slabs(2 * node.slabs.stats(&self.platform).slabs);
            bytes += node.slabs.purge_pages(Which::All, limit, &self.env(), &mut reclaim).0;
        }
        self.reclaim(reclaim);
        bytes
    }
}
