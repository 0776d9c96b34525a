//! Destroying a cache: kmem_cache_destroy, in the order of I18.
//!
//! ```text
//! gate (read)                  no CPU is between two states
//! inside of it?                a destructor or visitor of this thread has it pinned: refused, it would wait for itself
//! life: Live -> Dying          no slot can be enabled from here on, on any CPU, gate or no gate
//! slots -> slabs               of every CPU whose slot is enabled, online or not (I16), one fence for all
//! depot -> slabs
//! objects in use?              then Live again, and Busy: slots come back on first use (I17)
//! unlist                       no callback or reader can reach it from here on
//! gate released
//! wait for pins                those that have reached it before are gone (I19)
//! destructors, pages           with no lock held (I31, I34)
//! descriptor                   and only now its index and its slots may be used again
//! ```

use super::past::WAITS;
use crate::cache::{CacheDesc, CacheId, CacheState, Pinned};
use crate::cpu::{CpuSet, Mistake, ReadGuard};
use crate::engine::Engine;
use crate::error::DestroyError;
use crate::platform::{CacheStep, Platform};
use crate::slab::Reclaim;

impl<P: Platform> Engine<P> {
    /// Destroys a cache, or returns [`DestroyError::Busy`] with the number of objects that users hold, and leaves the
    /// cache as usable as before: kmem_cache_destroy.
    ///
    /// Costs O(what the cache holds) and at most one fence, whatever the number of other caches (I21). Destructors of
    /// its objects run on the calling thread, with no lock held; if one panics, the cache is destroyed all the same.
    ///
    /// # Safety
    /// Unless an error is returned, no thread is inside `alloc` or `free` of this cache, nor calls them later with its
    /// descriptor. (Typed handles express that by ownership.) An id that no longer names a cache is no danger.
    #[cold]
    pub unsafe fn destroy(&self, id: CacheId) -> Result<(), DestroyError> {
        if let Some(order) = self.order_of_2004() {
            // SAFETY: the caller's promise.
            return unsafe { order.destroy(id) };
        }
        let gate = self.gate.read(&self.platform).map_err(|_| DestroyError::InsideCallback)?;
        let cache = self.registry.pin(&self.platform, id).ok_or(DestroyError::NoSuchCache)?;
        if cache.class() != 0 {
            return Err(DestroyError::General);
        }
        // SAFETY: the caller's promise.
        unsafe { self.destroy_pinned(gate, cache) }
    }

    /// The same of any cache, also a general one.
    ///
    /// # Safety
    /// As for [`destroy`](Self::destroy).
    pub(super) unsafe fn destroy_pinned(
        &self,
        gate: ReadGuard<'_, P>,
        cache: Pinned<'_, P>,
    ) -> Result<(), DestroyError> {
        let id = cache.id();
        if self.inside.is_in(&self.platform, &cache) {
            return Err(DestroyError::InsideItself);
        }
        if let Some(past) = self.past(&[Mistake::DrainsBeforeDying]) {
            past.drain_first(&cache, &gate.online(&self.cpus));
        }
        if !cache.begin_to_die(&self.platform) {
            return Err(DestroyError::NoSuchCache);
        }
        let mut reclaim = Reclaim::new();
        self.drain_and_reap(&cache, &gate.online(&self.cpus), CpuSet::NONE, &mut reclaim);
        self.tell(&cache, CacheStep::Drained);
        let live = self.objects_in_use(&cache);
        self.tell(&cache, CacheStep::Checked { live });
        if live > 0 {
            *cache.life.lock(&self.platform) = CacheState::Live;
            self.tell(&cache, CacheStep::Revived);
            drop(gate);
            self.reclaim(reclaim);
            return Err(DestroyError::Busy { live });
        }
        *cache.life.lock(&self.platform) = CacheState::Drained;
        self.registry.unlist(&cache);
        self.tell(&cache, CacheStep::Unlisted);
        if let Some(past) = self.past(&WAITS) {
            past.wait_and_free(gate, cache, reclaim);
            return Ok(());
        }
        drop(gate);
        let desc = self.registry.only_pin(cache);
        let freeing = Freeing { engine: self, desc, id };
        self.reclaim(reclaim);
        drop(freeing);
        Ok(())
    }

    /// Objects that are not on their slabs: once slots and depots are empty, only those that users hold.
    pub(super) fn objects_in_use(&self, cache: &CacheDesc) -> usize {
        cache.nodes().map(|node| node.slabs.stats(&self.platform).in_use).sum()
    }
}

/// The last step of a destroy, taken even if a destructor panics.
pub(super) struct Freeing<'a, P: Platform> {
    pub(super) engine: &'a Engine<P>,
    pub(super) desc: core::ptr::NonNull<CacheDesc>,
    pub(super) id: CacheId,
}

impl<P: Platform> Drop for Freeing<'_, P> {
    fn drop(&mut self) {
        let engine = self.engine;
        // SAFETY: the descriptor is not freed yet.
        let cache = unsafe { self.desc.as_ref() };
        engine.tell(cache, CacheStep::Freed { bytes: cache.bytes_of_all() });
        // SAFETY: the cache is drained, unlisted and not pinned; its slabs and magazines are freed.
        unsafe { CacheDesc::free(self.desc, &engine.meta, &engine.platform) };
        engine.registry.recycle(&engine.platform, self.id);
    }
}
