//! Lists of slabs, linked through their descriptors.

use core::ptr::NonNull;

use super::descriptor::{ListId, Slab};

/// A list of slabs.
#[derive(Default)]
pub(super) struct List {
    pub(super) head: Option<NonNull<Slab>>,
    tail: Option<NonNull<Slab>>,
    /// Where a walk over the list goes on: it moves on when its slab is taken off.
    pub(super) cursor: Option<NonNull<Slab>>,
}

impl List {
    /// # Safety (all functions)
    /// The node's lock is held and the slab belongs to the node; `push`, `push_back`: it is on no list; `remove`: it is
    /// on this one.
    pub(super) unsafe fn push(&mut self, mut slab: NonNull<Slab>, id: ListId) {
        // SAFETY: see above.
        unsafe {
            slab.as_mut().list = id;
            slab.as_mut().prev = None;
            slab.as_mut().next = self.head;
            match self.head {
                Some(mut head) => head.as_mut().prev = Some(slab),
                None => self.tail = Some(slab),
            }
        }
        self.head = Some(slab);
    }

    pub(super) unsafe fn push_back(&mut self, mut slab: NonNull<Slab>, id: ListId) {
        // SAFETY: see above.
        unsafe {
            slab.as_mut().list = id;
            slab.as_mut().prev = self.tail;
            slab.as_mut().next = None;
            match self.tail {
                Some(mut tail) => tail.as_mut().next = Some(slab),
                None => self.head = Some(slab),
            }
        }
        self.tail = Some(slab);
    }

    pub(super) unsafe fn remove(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: see above.
        unsafe {
            let (prev, next) = (slab.as_ref().prev, slab.as_ref().next);
            match prev {
                Some(mut prev) => prev.as_mut().next = next,
                None => self.head = next,
            }
            match next {
                Some(mut next) => next.as_mut().prev = prev,
                None => self.tail = prev,
            }
            if self.cursor == Some(slab) {
                self.cursor = next;
            }
            slab.as_mut().list = ListId::None;
        }
    }
}
