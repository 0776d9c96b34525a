//! Packing: objects of sparse slabs are moved to dense ones, so that the sparse ones become empty.
//!
//! Objects that were freed here and there leave slabs of which most is free and nothing can be released. Only a program
//! can move its objects, because it alone knows the pointers to them. What it needs to know of each is whether that
//! helps; and the new place has to be on a dense slab, and the old one free at once. (Objects that pass through slots
//! and depots come from any slab, and keep it from becoming empty while they are there.)
//!
//! A slab is *sparse* if it has no more objects in use than the slabs of its cache on this node have on average, the
//! empty ones not counted; is not the first of the partial ones, from which objects are taken; and all objects would
//! fit into the other slabs. So the objects that have the fewest neighbours move first, the average rises by each slab
//! that becomes empty, and it ends when there are as few slabs as there can be.
//!
//! Slabs that are all about equally full are near the average, on either side of it. Until they are nearly full an
//! eighth above it still counts as sparse, so that one walk over such objects moves most of them.
//!
//! The first partial slab is to be a dense one. If it is not, the densest of the next few takes its place, and keeps it
//! until it is full: two steps of a bounded length.

use core::ptr::NonNull;

use super::descriptor::{ListId, Slab};
use super::node::{Lists, Node};
use crate::host::Host;

/// Slabs that are looked at for a dense one: the bound of work under the lock (I41).
const LOOK: usize = 64;

impl Node {
    /// Whether moving the objects of a slab helps to empty it.
    ///
    /// # Safety
    /// The slab is of this node, and lives.
    pub(crate) unsafe fn is_sparse<P: Host>(&self, platform: &P, slab: NonNull<Slab>) -> bool {
        let lists = self.lists.lock(platform);
        // SAFETY: the slab lives, and the lock is held.
        let this = unsafe { slab.as_ref() };
        let others = (lists.stats.slabs - lists.stats.empty).saturating_sub(1);
        this.list == ListId::Partial
            && lists.partial.head != Some(slab)
            && lists.stats.in_use <= others * this.objects()
            && !lists.is_dense(this)
    }

    /// Puts a dense slab first, so that the next refill takes its objects.
    pub(crate) fn gather<P: Host>(&self, platform: &P) {
        let mut lists = self.lists.lock(platform);
        let Some(mut densest) = lists.partial.head else { return };
        // SAFETY: slabs on the lists are guarded by the lock, which is held.
        unsafe {
            if lists.is_dense(densest.as_ref()) {
                return;
            }
            let mut at = densest.as_ref().next;
            for _ in 0..LOOK {
                let Some(slab) = at else { break };
                if slab.as_ref().in_use > densest.as_ref().in_use {
                    densest = slab;
                }
                at = slab.as_ref().next;
            }
            if lists.partial.head != Some(densest) {
                lists.partial.remove(densest);
                lists.partial.push(densest, ListId::Partial);
            }
        }
    }
}

impl Lists {
    /// Whether a slab has more objects in use than the average of those that are not empty: an eighth more, as long as
    /// an eighth of it is free.
    fn is_dense(&self, slab: &Slab) -> bool {
        let in_use = slab.in_use as usize;
        let over = if in_use * 8 > slab.objects() * 7 { 8 } else { 9 };
        in_use * (self.stats.slabs - self.stats.empty) * 8 > self.stats.in_use * over
    }
}
