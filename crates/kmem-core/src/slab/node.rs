//! The slabs of one cache on one node: three lists under one lock.

use core::ptr::NonNull;

use super::Reclaim;
use super::descriptor::{ListId, Slab, Taken};
use super::list::List;
use super::sweep::Sweep;
use crate::batch::{BATCH_MAX, Batch};
use crate::cache::CacheDesc;
use crate::hint::cold_path;
use crate::host::Host;
use crate::meta::Meta;
use crate::pages::{Owner, PageHeap, Use};
use crate::sync::{Guard, Mutex, Rank, Word};

/// Bytes of empty slabs that a cache keeps on a node; further ones are reclaimed at once. One slab is kept in any case.
const EMPTY_KEPT: usize = 256 << 10;
/// Bytes of the largest object whose slabs count as densely used: a few of them fill a page.
const DENSE: usize = 1024;
/// The first slabs of a cache, which may remain its only ones: a few objects are no reason to fill the memory around
/// them. Otherwise a process with thousands of caches, each with an object or two, would have huge pages for all of
/// them.
const FIRST_SLABS: usize = 4;

#[derive(Default)]
pub(super) struct Lists {
    /// Slabs that the [`idle`](super::idle) walk has seen, and that were not touched since, come after those that were.
    pub(super) partial: List,
    full: List,
    pub(super) empty: List,
    /// The slab whose pages are being purged.
    pub(super) aside: List,
    /// The token of the thread that set it aside, or 0.
    pub(super) walker: usize,
    /// Whether objects were taken or put since the idle walk last began.
    pub(super) touched: bool,
    pub(super) stats: NodeStats,
    /// Objects in use when the lock was taken to put some back. Here, because the stack is not ours.
    counted: usize,
    /// The least number of empty slabs since the last [`Node::reclaim_idle`]: so many were not needed.
    empty_low: usize,
    colour: usize,
    /// When frees release memory by themselves.
    pub(super) sweep: Sweep,
}

// SAFETY: the slabs on the lists are guarded by the lock around them.
unsafe impl Send for Lists {}

/// What a node holds of a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NodeStats {
    /// Slabs.
    pub slabs: usize,
    /// Of these, without an object in use.
    pub empty: usize,
    /// Objects outside of the slabs: with users, in slots, in the depot.
    pub in_use: usize,
    /// Objects in all.
    pub total: usize,
    /// The most that `in_use` ever was.
    pub high: usize,
    /// Slabs that were taken off the lists since the beginning.
    pub reaped: usize,
    /// How often objects were taken off slabs, a batch at a time.
    pub refills: usize,
    /// How often objects were put back onto slabs, a batch at a time.
    pub flushes: usize,
}

/// What a refill brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refill {
    /// Objects added to the batch.
    pub count: usize,
    /// Bit `i` is set if the `i`-th added object still needs its constructor.
    pub raw: u64,
    /// Bit `i` is set if the `i`-th added object is known to read as zero.
    pub zero: u64,
    /// Whether there is a new slab.
    pub made: bool,
}

/// Why an object cannot be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreeError {
    /// The address is not the beginning of an object of this allocator.
    NotAnObject,
    /// The object is free already.
    DoubleFree,
}

/// The slabs of a cache on a node.
pub(crate) struct Node {
    pub(super) lists: Mutex<Lists>,
}

impl Node {
    /// A node without slabs.
    pub(crate) fn new() -> Self {
        Self { lists: Mutex::new(Rank::Node, Lists::default()) }
    }

    /// Takes up to `want` objects from partial slabs, then from empty ones; makes a slab if there is none. No objects
    /// means no memory.
    pub(crate) fn refill<P: Host>(
        &self,
        cache: &CacheDesc,
        node: usize,
        want: usize,
        out: &mut Batch,
        env: &Env<'_, P>,
    ) -> Refill {
        debug_assert!(out.as_slice().len() + want <= BATCH_MAX, "there is room for all that is wanted");
        let mut refill = Refill { count: 0, raw: 0, zero: 0, made: false };
        let mut lists = self.lists.lock(env.platform);
        if lists.partial.head.is_none() && lists.empty.head.is_none() {
            if cache.account().is_some_and(|account| account.full(cache.layout().size).is_some()) {
                return refill;
            }
            let colour = lists.colour;
            let fills = cache.layout().size <= DENSE && lists.stats.slabs >= FIRST_SLABS;
            drop(lists);
            let made = Slab::new(cache, node, colour, if fills { Use::Dense } else { Use::Any }, env);
            lists = self.lists.lock(env.platform);
            if let Some(slab) = made {
                refill.made = true;
                lists.colour = (colour + 1) % cache.layout().colours;
                lists.stats.slabs += 1;
                lists.stats.empty += 1;
                lists.stats.total += cache.layout().objects;
                // SAFETY: the slab is new and on no list.
                unsafe { lists.empty.push(slab, ListId::Empty) };
            }
        }
        let granted = cache.account().map_or(want, |account| account.charge(want, cache.layout().size));
        while refill.count < granted {
            let (list, id) = match (lists.partial.head, lists.empty.head) {
                (Some(_), _) => (&mut lists.partial, ListId::Partial),
                (None, Some(_)) => (&mut lists.empty, ListId::Empty),
                (None, None) => break,
            };
            let Some(mut slab) = list.head else { break };
            // SAFETY: slabs on the lists are guarded by the lock, which is held.
            unsafe {
                if id == ListId::Empty {
                    list.remove(slab);
                    lists.stats.empty -= 1;
                    lists.empty_low = lists.empty_low.min(lists.stats.empty);
                    lists.partial.push(slab, ListId::Partial);
                }
                let mut taken = Taken::default();
                out.fill(granted - refill.count, |room| {
                    taken = slab.as_mut().take(room);
                    taken.count
                });
                refill.raw |= taken.raw << refill.count;
                refill.zero |= taken.zero << refill.count;
                refill.count += taken.count;
                lists.stats.in_use += taken.count;
                lists.has_risen();
                lists.touched = true;
                if slab.as_ref().is_full() {
                    lists.partial.remove(slab);
                    lists.full.push(slab, ListId::Full);
                }
            }
        }
        if let Some(account) = cache.account().filter(|_| refill.count < granted) {
            account.uncharge(granted - refill.count, cache.layout().size);
        }
        lists.stats.refills += 1;
        lists.stats.high = lists.stats.high.max(lists.stats.in_use);
        refill
    }

    /// Every slab, for `validate`; the lock is held meanwhile.
    pub(crate) fn for_each_slab<P: Host>(&self, platform: &P, mut visit: impl FnMut(&mut Slab)) -> NodeStats {
        let lists = self.lists.lock(platform);
        for head in [lists.partial.head, lists.full.head, lists.empty.head, lists.aside.head] {
            let mut at = head;
            while let Some(mut slab) = at {
                // SAFETY: the lock is held.
                let slab = unsafe { slab.as_mut() };
                visit(slab);
                at = slab.next;
            }
        }
        lists.stats
    }

    /// What the node holds.
    pub(crate) fn stats<P: Host>(&self, platform: &P) -> NodeStats {
        self.lists.lock(platform).stats
    }

    /// Takes the empty slabs off their list, except those worth keeping (or all, if `all`).
    pub(crate) fn reclaim_empty<P: Host>(&self, platform: &P, all: bool, into: &mut Reclaim) {
        let mut lists = self.lists.lock(platform);
        let keep = if all { 0 } else { kept(&lists) };
        reclaim_superfluous(&mut lists, keep, into);
    }

    /// Ends a period of decay: takes off the empty slabs that were not needed all through it, and returns whether there
    /// are others.
    pub(crate) fn reclaim_idle<P: Host>(&self, platform: &P, into: &mut Reclaim) -> bool {
        let mut lists = self.lists.lock(platform);
        let keep = lists.stats.empty - lists.empty_low.min(lists.stats.empty);
        reclaim_superfluous(&mut lists, keep, into);
        lists.empty_low = lists.stats.empty;
        lists.stats.empty > 0
    }

    /// The word of the lock, for fork.
    pub(crate) fn word(&self) -> &Word {
        self.lists.word()
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Lists {
    /// Puts the first of these objects on their slab, as many as are successively of it, and returns how many these
    /// are.
    ///
    /// # Safety
    /// The slab is of this node, and the first of these is an object of it.
    unsafe fn put(
        &mut self,
        mut slab: NonNull<Slab>,
        objects: &[usize],
        constructed: impl Fn(usize) -> bool,
        into: &mut Reclaim,
        bad: &mut impl FnMut(usize, FreeError),
    ) -> usize {
        // SAFETY: the lock is held; the slab is on one of its lists.
        unsafe {
            let was_full = slab.as_ref().is_full();
            let (seen, put) = slab.as_mut().put(objects, constructed, bad);
            if put == 0 {
                return seen;
            }
            self.stats.in_use -= put;
            self.touched = true;
            if self.is_due(slab.as_ref().objects()) {
                into.note_due();
            }
            if slab.as_ref().list == ListId::Aside {
                // The thread that set it aside puts it on a list.
                return seen;
            }
            if was_full {
                self.full.remove(slab);
                self.partial.push(slab, ListId::Partial);
            }
            if slab.as_ref().in_use == 0 {
                self.partial.remove(slab);
                self.empty.push(slab, ListId::Empty);
                self.stats.empty += 1;
                let keep = kept(self);
                reclaim_superfluous(self, keep, into);
            }
            seen
        }
    }
}

/// Empty slabs that a node keeps.
fn kept(lists: &Lists) -> usize {
    // SAFETY: the lock is held.
    let bytes = lists.empty.head.map_or(1, |slab| unsafe { slab.as_ref().cache.as_ref() }.layout().bytes());
    (EMPTY_KEPT / bytes).max(1)
}

/// Takes empty slabs off until `keep` are left.
fn reclaim_superfluous(lists: &mut Lists, keep: usize, into: &mut Reclaim) {
    if into.is_closed() {
        if let Some(slab) = lists.empty.head.filter(|_| lists.stats.empty > keep) {
            // SAFETY: the lock is held, and a cache outlives its slabs.
            unsafe { slab.as_ref().cache.as_ref() }.note_overdue();
        }
        return;
    }
    while lists.stats.empty > keep
        && let Some(slab) = lists.empty.head
    {
        // SAFETY: the lock is held.
        unsafe {
            lists.empty.remove(slab);
            lists.stats.empty -= 1;
            lists.stats.slabs -= 1;
            lists.stats.reaped += 1;
            lists.stats.total -= slab.as_ref().objects();
        }
        lists.empty_low = lists.empty_low.min(lists.stats.empty);
        into.push(slab);
    }
}

/// What the slab layer needs from below.
pub(crate) struct Env<'a, P: Host> {
    pub(crate) platform: &'a P,
    pub(crate) heap: &'a PageHeap,
    pub(crate) meta: &'a Meta,
}

/// Puts objects back onto their slabs. A node's lock is held while successive objects belong to it, and a slab is
/// looked up once for successive objects of it. A pointer that is no object of this engine is reported to `bad` and
/// left alone; nothing else is lost by it.
///
/// # Safety
/// Each object was handed out by a slab of this heap, or is in no slab of it at all; it is the caller's, and its slab's
/// cache lives. (Some pointers that are none of these are detected, and reported.)
pub(crate) unsafe fn put_back<P: Host>(
    objects: &[usize],
    constructed: impl Fn(usize) -> bool,
    env: &Env<'_, P>,
    into: &mut Reclaim,
    mut bad: impl FnMut(usize, FreeError),
) {
    let mut held: Option<Held<'_, P>> = None;
    let mut at = 0;
    while let Some(object) = objects.get(at) {
        // SAFETY: the caller's promise.
        let Some((slab, _)) = (unsafe { find(env.heap, *object) }) else {
            bad(*object, FreeError::NotAnObject);
            at += 1;
            continue;
        };
        // SAFETY: the object is not free, so its slab and the slab's cache live.
        let (cache, node) = unsafe { Slab::home_of(slab) };
        if held.as_ref().is_none_or(|held| !core::ptr::eq(held.cache, cache) || held.node != node) {
            drop(held.take());
        }
        let held = held.get_or_insert_with(|| {
            let mut lists = cache.node(node).slabs.lists.lock(env.platform);
            lists.stats.flushes += 1;
            lists.counted = lists.stats.in_use;
            Held { cache, node, lists }
        });
        // SAFETY: the slab is of that node, and the object is one of its.
        at += unsafe { held.lists.put(slab, &objects[at..], |place| constructed(at + place), into, &mut bad) };
    }
}

/// A node to which objects return.
struct Held<'a, P: Host> {
    cache: &'a CacheDesc,
    node: usize,
    lists: Guard<'a, Lists, P>,
}

impl<P: Host> Drop for Held<'_, P> {
    fn drop(&mut self) {
        if let Some(account) = self.cache.account() {
            cold_path();
            account.uncharge(self.lists.counted - self.lists.stats.in_use, self.cache.layout().size);
        }
    }
}

/// The slab and the index of the object at `address`, if one begins there.
///
/// # Safety
/// The slab that covers the address, if there is one, lives: an object of it is the caller's, or in a place that the
/// caller is looking at.
pub(crate) unsafe fn find(heap: &PageHeap, address: usize) -> Option<(NonNull<Slab>, usize)> {
    let Owner::Slab(slab) = heap.owner(address) else {
        return None;
    };
    let slab = slab.cast::<Slab>();
    // SAFETY: the caller's promise: an entry that names a slab names one that lives while an object of it does.
    let index = unsafe { Slab::index_of(slab, address) }?;
    Some((slab, index))
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const PARTIAL: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, partial.head);
    pub(crate) const FULL: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, full.head);
    pub(crate) const EMPTY: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, empty.head);
    pub(crate) const ASIDE: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, aside.head);
    pub(crate) const SLABS: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.slabs);
    pub(crate) const EMPTY_SLABS: usize =
        offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.empty);
    pub(crate) const IN_USE: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.in_use);
    pub(crate) const TOTAL: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.total);
    pub(crate) const HIGH: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.high);
    pub(crate) const REAPED: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.reaped);
    pub(crate) const REFILLS: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.refills);
    pub(crate) const FLUSHES: usize = offset_of!(Node, lists) + Mutex::<Lists>::DATA + offset_of!(Lists, stats.flushes);
}
