//! Giving slabs back: destructors, pages and descriptor, at a moment without locks.

use core::ptr::NonNull;

use super::Env;
use super::descriptor::Slab;
use crate::cache::Inside;
use crate::host::Host;

/// Empty slabs that are nobody's any more and wait for a moment without locks to go back (I31, I34).
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

    /// A list that takes no slab: those that become empty stay with their node. For who works on many caches under the
    /// gate, and would have to keep all of them from being destroyed until their slabs are released (I19), and for who
    /// does upkeep, and must not run destructors. A cache that has one remembers that there is something to give back,
    /// and the next thread that misses there does it.
    pub(crate) const fn closed() -> Self {
        Self { head: None, closed: true, due: false }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Notes that a [sweep](super::sweep) is due where objects were put back.
    pub(super) fn note_due(&mut self) {
        self.due = true;
    }

    /// Whether a sweep is due where objects were put back.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn push(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: the slab was taken off its list under the node's lock: it is ours.
        unsafe { slab.as_mut() }.next = self.head;
        self.head = Some(slab);
    }

    fn pop(&mut self) -> Option<NonNull<Slab>> {
        let slab = self.head?;
        // SAFETY: slabs on this list are ours.
        self.head = unsafe { slab.as_ref() }.next;
        Some(slab)
    }

    /// Gives every slab back: destructors first, then pages, then the descriptor. The caller holds no lock of the
    /// engine (the gate, if a hotplug callback frees) and keeps the slabs' caches from being destroyed (I19).
    /// Answers the bytes of the slabs.
    ///
    /// A destructor that panics costs nothing but itself: the slabs are given back while unwinding.
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
        // SAFETY: the slab is ours; its cache outlives its slabs (destroy waits for them).
        let cache = unsafe { slab.as_ref().cache.as_ref() };
        if let Some(destruct) = cache.ops().and_then(|ops| ops.destructor()) {
            // On a panic the slab goes back on the list: the object is not destructed twice.
            let again = PutBack { list: &mut self.list, slab };
            self.inside.run(self.env.platform, cache, || {
                let mut from = 0;
                // SAFETY: the slab is ours, its objects are all free, so nobody uses them.
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
        // Empty unless a destructor panicked. Then the rest goes back here; a second panic aborts, as everywhere in
        // Rust.
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
