//! What a program calls that moves its objects together: see [`slab::pack`](crate::slab), which has the theory.

use core::ptr::NonNull;

use super::slow_path::newest;
use crate::batch::Batch;
use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::error::AllocError;
use crate::pages::Owner;
use crate::platform::Platform;
use crate::slab::{self, Reclaim};

impl<P: Platform> Engine<P> {
    /// Whether moving the object at `address` helps to empty its slab: the slab is sparser than the others of its
    /// cache, and there is another one to move to. O(1), and takes the lock of the object's node. `false` for an
    /// address that is not an object's, and for large objects, which are no slab's.
    ///
    /// # Safety
    /// If an object of this engine begins there, it is the caller's: not freed before or meanwhile.
    pub unsafe fn worth_moving(&self, address: usize) -> bool {
        // SAFETY: the object lives, by the caller's word; so do its slab and its cache.
        unsafe {
            slab::find(&self.heap, address).is_some_and(|(slab, _)| {
                let (cache, node) = slab::Slab::home_of(slab);
                cache.node(node).slabs.is_sparse(&self.platform, slab)
            })
        }
    }

    /// Takes an object of a dense slab, past the slots and the depots. As [`alloc`](Self::alloc), but costs two locks.
    ///
    /// # Safety
    /// The cache lives.
    #[inline(never)]
    pub unsafe fn alloc_packed(&self, cache: &CacheDesc) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's promise.
        self.take_packed(cache).or_else(|AllocError| unsafe { self.alloc(cache) })
    }

    #[inline(never)]
    fn take_packed(&self, cache: &CacheDesc) -> Result<NonNull<u8>, AllocError> {
        let home = self.platform.node_of(self.platform.current_cpu());
        cache.node(home).slabs.gather(&self.platform);
        let mut batch = Batch::new();
        self.refill(cache, home, 1, &mut batch);
        cache.rest.wake();
        newest(&mut batch)
    }

    /// Frees an object to its slab at once, past the slots and the depots: the counterpart of
    /// [`alloc_packed`](Self::alloc_packed), for any memory that [`free_bytes`](Self::free_bytes) frees.
    ///
    /// # Safety
    /// The memory is the caller's and not used afterwards (I7).
    #[inline(never)]
    pub unsafe fn free_packed(&self, address: NonNull<u8>) {
        let at = address.as_ptr() as usize;
        let Owner::Slab(slab) = self.heap.owner(at) else {
            // SAFETY: passed on.
            return unsafe { self.free_bytes(address) };
        };
        let mut reclaim = Reclaim::new();
        // SAFETY: the object lives until it is freed here, by the caller's word; so do its slab and its cache, which
        // its user keeps.
        unsafe {
            let (cache, _) = slab::Slab::home_of(slab.cast());
            self.return_to_slabs(&[at], &mut reclaim);
            cache.rest.wake();
        }
        self.reclaim(reclaim);
    }
}
