//! Purging the free pages of slabs that are in use: what a few survivors leave unused.
//!
//! A walk goes over a node's partial slabs, a few at a time, and continues there the next time. A slab that was not
//! touched since the previous walk is *set aside*: off the partial list, so no thread takes objects from it, while the
//! pages that hold only free objects are purged with no lock held (I34). Objects that are freed meanwhile are noted on
//! its bitmap as always. Then it goes to the end of the partial list: the slabs in front are used up first, so sparse
//! ones drain. If it became empty meanwhile it is reclaimed, whatever happened to its cache: a destroy that found the
//! cache's objects all free has looked at the lists already, and waits only for the walker's pin (I19).
//!
//! Purged pages are noted, so that none is purged twice. Objects on them are as free as others; their page is faulted
//! in when one is used. At most one slab of a node is aside at a time, so its objects are hardly ever missed; a thread
//! that finds another walk there leaves the node to it. In a child made by fork the other thread's walk does not exist,
//! and the child takes the slab back ([`Node::take_back_aside`]), unless it is the walking thread itself, interrupted
//! by a signal, which continues its walk.

use core::ptr::NonNull;

use super::descriptor::{ListId, Slab};
use super::layout::PAGE;
use super::node::{Lists, Node};
use super::{Env, Reclaim};
use crate::host::Host;

/// Slabs that are looked at under one lock.
const SLABS_A_LOCK: usize = 32;
/// Stretches of pages that go back before a slab is put back into its list.
const STRETCHES: usize = 16;

/// Which slabs a walk cares for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that were not touched since the previous walk.
    Untouched,
    /// All of them.
    All,
    /// All that are left of a [sweep](super::sweep), which goes on where its last piece ended.
    Rest,
}

/// What a walk may do at most.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    /// Slabs looked at.
    pub(crate) slabs: usize,
    /// Slabs whose pages are released, each with up to 16 calls to the page source.
    pub(crate) released: usize,
}

impl Limit {
    /// As many as this are looked at.
    pub(crate) const fn slabs(slabs: usize) -> Self {
        Self { slabs, released: usize::MAX }
    }
}

/// Stretches of a slab's pages, first and end.
struct Stretches {
    slab: NonNull<Slab>,
    pages: [(u32, u32); STRETCHES],
    count: usize,
}

impl Stretches {
    fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.pages[..self.count].iter().map(|(first, end)| (*first as usize, *end as usize))
    }
}

impl Node {
    /// Releases free pages of partial slabs within `limit`, beginning where the last walk ended; returns the bytes,
    /// and whether another walk is worth it. The caller holds no lock, and has the cache pinned until what is in
    /// `into` is released.
    #[cold]
    pub(crate) fn purge_pages<P: Host>(
        &self,
        which: Which,
        limit: Limit,
        env: &Env<'_, P>,
        into: &mut Reclaim,
    ) -> (usize, bool) {
        if env.platform.page_size() > PAGE {
            return (0, false);
        }
        let mut lists = self.lists.lock(env.platform);
        if which != Which::Rest && (lists.partial.cursor.is_none() || which == Which::All) {
            if !lists.touched && which == Which::Untouched {
                return (0, false);
            }
            lists.touched = false;
            lists.partial.cursor = lists.partial.head;
        }
        let (mut bytes, mut left, mut released) = (0, limit.slabs, 0);
        while left > 0 && released < limit.released && lists.may_go_on() {
            let mut look = SLABS_A_LOCK.min(left);
            left -= look;
            let found = lists.look(which, &mut look);
            left += look;
            if let Some(found) = found {
                released += 1;
                lists.walker = env.platform.thread_token();
                drop(lists);
                for (first, end) in found.iter() {
                    // SAFETY: the slab is aside, so its free objects stay free, and these pages hold no others.
                    unsafe { env.platform.purge(found.slab.as_ref().page(first), (end - first) * PAGE) };
                    bytes += (end - first) * PAGE;
                }
                lists = self.lists.lock(env.platform);
                lists.put_back(&found, into);
            } else {
                drop(lists);
                lists = self.lists.lock(env.platform);
            }
        }
        (bytes, lists.touched || lists.partial.cursor.is_some())
    }

    /// Puts back the slab that was set aside by a thread which does not exist in the child. Does nothing if the calling
    /// thread is itself in the middle of something here.
    pub(crate) fn take_back_aside<P: Host>(&self, platform: &P) {
        let Some(mut lists) = self.lists.try_lock(platform) else { return };
        if lists.walker == platform.thread_token() {
            return;
        }
        lists.walker = 0;
        while let Some(slab) = lists.aside.head {
            // SAFETY: the lock is held, and no thread walks.
            unsafe {
                lists.aside.remove(slab);
                if slab.as_ref().in_use == 0 {
                    lists.stats.empty += 1;
                    lists.empty.push(slab, ListId::Empty);
                } else {
                    lists.partial.push_back(slab, ListId::Partial);
                }
            }
        }
    }
}

impl Lists {
    /// Whether a walk has slabs before it, and no other walk has one aside.
    fn may_go_on(&self) -> bool {
        self.partial.cursor.is_some() && self.walker == 0
    }

    /// Looks at up to `look` slabs from the cursor on (and counts it down), and sets the first aside that has pages to
    /// give back.
    #[cold]
    fn look(&mut self, which: Which, look: &mut usize) -> Option<Stretches> {
        while *look > 0 {
            *look -= 1;
            let mut slab = self.partial.cursor?;
            // SAFETY: slabs on the lists are guarded by the lock, which is held.
            unsafe {
                debug_assert_eq!(slab.as_ref().list, ListId::Partial, "the walk is on its list");
                self.partial.cursor = slab.as_ref().next;
                if core::mem::take(&mut slab.as_mut().touched) && which == Which::Untouched {
                    self.touched = true;
                    continue;
                }
                let mut found = Stretches { slab, pages: [(0, 0); STRETCHES], count: 0 };
                slab.as_ref().free_pages(|first, end| {
                    found.pages[found.count] = (first as u32, end as u32);
                    found.count += 1;
                    found.count < STRETCHES
                });
                if found.count > 0 {
                    self.partial.remove(slab);
                    self.aside.push(slab, ListId::Aside);
                    return Some(found);
                }
            }
        }
        None
    }

    /// Puts a slab back whose pages went.
    fn put_back(&mut self, found: &Stretches, into: &mut Reclaim) {
        let mut slab = found.slab;
        self.walker = 0;
        // SAFETY: the lock is held; the slab is aside, where its free objects stayed free.
        unsafe {
            for (first, end) in found.iter() {
                slab.as_mut().note_purged(first, end);
            }
            self.aside.remove(slab);
            if slab.as_ref().in_use == 0 {
                self.stats.slabs -= 1;
                self.stats.reaped += 1;
                self.stats.total -= slab.as_ref().objects();
                into.push(slab);
            } else {
                self.partial.push_back(slab, ListId::Partial);
            }
        }
    }
}
