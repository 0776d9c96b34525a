//! Reclaiming slabs: destructors, pages and descriptor, when no lock is held.

use core::ptr::NonNull;

use super::Env;
use super::descriptor::Slab;
use crate::cache::Inside;
use crate::host::Host;

/// Empty slabs that were taken off their lists, and are reclaimed when no lock is held (I31, I34).
#[must_use = "slabs on this list are lost unless they are released"]
pub(crate) struct Reclaim {
    head: Option<NonNull<Slab>>,
    closed: bool,
    due: bool,
}

impl Reclaim {
    /// No slab.
    pub(crate) const fn new() -> Self {
        Self { head: None, closed: false, due: false }
    }

    /// A list that takes no slab: slabs that become empty stay with their node. It is for a caller that works on many
    /// caches under the gate, and would have to keep all of them from being destroyed until their slabs are reclaimed
    /// (I19), and for upkeep, which must not run destructors. A cache with a destructor remembers that there are slabs
    /// to reclaim, and the next thread that misses there does it.
    pub(crate) const fn closed() -> Self {
        Self { head: None, closed: true, due: false }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Notes that a [sweep](super::sweep) is due on the node to which objects returned.
    pub(super) fn note_due(&mut self) {
        self.due = true;
    }

    /// Whether a sweep is due on such a node.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn push(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: the slab was taken off its list under the node's lock, so it is this list's.
        unsafe { slab.as_mut() }.next = self.head;
        self.head = Some(slab);
    }

    fn pop(&mut self) -> Option<NonNull<Slab>> {
        let slab = self.head?;
        // SAFETY: slabs on this list belong to it.
        self.head = unsafe { slab.as_ref() }.next;
        Some(slab)
    }

    /// Reclaims every slab: destructors first, then pages, then the descriptor. The caller holds no lock of the engine
    /// (the gate, if a hotplug callback frees) and keeps the slabs' caches from being destroyed (I19). Returns the
    /// bytes of the slabs.
    ///
    /// A destructor that panics costs nothing else: the slabs are reclaimed during unwinding.
    pub(crate) fn into_heap<P: Host>(self, env: &Env<'_, P>, inside: &Inside) -> usize {
        debug_assert!(
            env.platform.held_ranks().is_none_or(|held| held.at_most_gate()),
            "destructors run, and pages go back, without a lock (I31, I34)"
        );
        let mut reclaiming = Reclaiming { list: self, env, inside, bytes: 0 };
        reclaiming.run();
        reclaiming.bytes
    }
}

impl Default for Reclaim {
    fn default() -> Self {
        Self::new()
    }
}

struct Reclaiming<'a, P: Host> {
    list: Reclaim,
    env: &'a Env<'a, P>,
    inside: &'a Inside,
    bytes: usize,
}

impl<P: Host> Reclaiming<'_, P> {
    fn run(&mut self) {
        while let Some(slab) = self.list.pop() {
            self.reclaim_one(slab);
        }
    }

    fn reclaim_one(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: the slab is this list's; its cache outlives its slabs (a destroy waits for them).
        let cache = unsafe { slab.as_ref().cache.as_ref() };
        if let Some(destruct) = cache.ops().and_then(|ops| ops.destructor()) {
            // On a panic the slab goes back on the list: the object is not destructed twice.
            let again = PutBack { list: &mut self.list, slab };
            self.inside.run(self.env.platform, cache, || {
                let mut from = 0;
                // SAFETY: the slab is this list's, and its objects are all free, so no thread uses them.
                while let Some(index) = unsafe { slab.as_mut().take_constructed(from) } {
                    // SAFETY: as above.
                    destruct(unsafe { slab.as_ref() }.address_of(index));
                    from = index + 1;
                }
            });
            core::mem::forget(again);
        }
        // SAFETY: as above; nothing refers to the slab from here on.
        self.bytes += unsafe { Slab::free(slab, self.env.heap, self.env.meta, self.env.platform) };
    }
}

impl<P: Host> Drop for Reclaiming<'_, P> {
    fn drop(&mut self) {
        // The list is empty unless a destructor panicked. Then the rest is reclaimed here; a second panic aborts, as
        // everywhere in Rust.
        self.run();
    }
}

struct PutBack<'a> {
    list: &'a mut Reclaim,
    slab: NonNull<Slab>,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        self.list.push(self.slab);
    }
}
