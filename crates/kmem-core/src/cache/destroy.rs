//! Destroying a cache: kmem_cache_destroy, in the order of I18.
//!
//! ```text
//! gate (read)                  no CPU is between two states
//! life: Live -> Dying          no slot can be enabled from here on, on any CPU, gate or no gate
//! slots -> slabs               of every CPU whose slot is enabled, online or not (I16), one fence for all
//! depot -> slabs
//! objects in use?              then Live again, and Busy: slots come back on first use (I17)
//! unlist                       no callback or reader can reach it any more
//! gate released
//! wait for pins                those that had reached it are gone (I19)
//! destructors, pages           with no lock held (I31, I34)
//! descriptor                   and only now its index and its slots may be used again
//! ```

use super::{CacheDesc, CacheId, CacheState};
use crate::engine::Engine;
use crate::error::DestroyError;
use crate::platform::Platform;
use crate::slab::Reclaim;

impl<P: Platform> Engine<P> {
    /// Destroys a cache, or answers Busy with the number of objects that users hold and leaves the cache as usable as before.
    ///
    /// Costs O(what the cache holds) and at most one fence, whatever the number of other caches (I21). The caller sees to it that nobody is inside `alloc`
    /// or `free` of this cache; typed handles express that by ownership.
    pub fn destroy(&self, id: CacheId) -> Result<(), DestroyError> {
        let gate = self.gate.read(&self.platform).map_err(|_| DestroyError::InsideCallback)?;
        let cache = self.registry.pin(&self.platform, id).ok_or(DestroyError::NoSuchCache)?;
        {
            let mut life = cache.life.lock(&self.platform);
            if *life != CacheState::Live {
                drop(life);
                return Err(DestroyError::NoSuchCache);
            }
            *life = CacheState::Dying;
        }
        let mut reclaim = Reclaim::new();
        self.drain(&cache, &gate.online(&self.cpus), &mut reclaim);
        let live: usize = cache.nodes().map(|node| node.slabs.stats(&self.platform).in_use).sum();
        if live > 0 {
            *cache.life.lock(&self.platform) = CacheState::Live;
            drop(gate);
            self.release(reclaim);
            return Err(DestroyError::Busy { live });
        }
        *cache.life.lock(&self.platform) = CacheState::Drained;
        self.registry.unlist(&cache);
        drop(gate);
        let desc = self.registry.only_pin(cache);
        let freeing = Freeing { engine: self, desc, id };
        self.release(reclaim);
        drop(freeing);
        Ok(())
    }
}

/// The last step of a destroy, also where a destructor panics.
struct Freeing<'a, P: Platform> {
    engine: &'a Engine<P>,
    desc: core::ptr::NonNull<CacheDesc>,
    id: CacheId,
}

impl<P: Platform> Drop for Freeing<'_, P> {
    fn drop(&mut self) {
        let engine = self.engine;
        // SAFETY: the cache is drained, unlisted and not pinned; its slabs and magazines went back.
        unsafe { CacheDesc::free(self.desc, &engine.meta, &engine.platform) };
        engine.registry.recycle(&engine.platform, self.id);
    }
}
