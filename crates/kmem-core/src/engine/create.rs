//! Creating a cache.
//!
//! Everything that can fail is done before the cache is listed. Listing it is one step under the registry's lock, so no
//! callback ever sees a listed cache that is partly made (race 1, I11). Room in the areas, and slots if the embedder
//! wants them eagerly, are made after listing and under the gate. If that fails the cache is destroyed, which is valid
//! after none, part or all of it (I12, I23).

use core::ptr::NonNull;

use crate::cache::{CacheDesc, CacheId, CacheSpec};
use crate::cpu::{OnlineCpus, ReadGuard};
use crate::engine::{Engine, Population};
use crate::error::CreateError;
use crate::percpu::SlotIndex;
use crate::platform::{CacheStep, Platform};

impl<P: Platform> Engine<P> {
    /// Creates a cache: kmem_cache_create.
    ///
    /// Takes the gate's read side, so it waits for a running CPU transition. O(1) whatever the number of caches and
    /// CPUs (with [`Population::Eager`], O(online CPUs)). On an error nothing of the cache is left.
    #[inline(never)]
    pub fn create(&self, spec: &CacheSpec<'_>) -> Result<CacheId, CreateError> {
        spec.check()?;
        let gate = self.gate.read(&self.platform).map_err(|_| CreateError::InsideCallback)?;
        let id = self.list_new(spec, &gate)?;
        if self.order_of_2004().is_some() || self.make_ready(id, &gate.online(&self.cpus)) {
            return Ok(id);
        }
        if let Some(cache) = self.registry.pin(&self.platform, id) {
            // No user knows the cache yet: it cannot be busy.
            // SAFETY: for the same reason no thread is inside alloc or free of it.
            let undone = unsafe { self.destroy_pinned(gate, cache) };
            debug_assert!(undone.is_ok());
        }
        Err(CreateError::NoMemory)
    }

    /// Makes a cache and lists it. Out of line, so that what it needs of the stack is not below that of a destroy.
    #[inline(never)]
    fn list_new(&self, spec: &CacheSpec<'_>, gate: &ReadGuard<'_, P>) -> Result<CacheId, CreateError> {
        let layout = spec.check()?;
        let desc = CacheDesc::new(spec.name, spec.size, layout, 0, spec.ops, &self.meta, &self.platform)
            .ok_or(CreateError::NoMemory)?;
        // SAFETY: the descriptor is new and known to no other thread; it is freed only while that is still so.
        let described = || unsafe { desc.as_ref() };
        self.tell(described(), CacheStep::Described { bytes: described().bytes_of_all() });
        let not_listed = |_: &CreateError| {
            self.tell(described(), CacheStep::Freed { bytes: described().bytes_of_all() });
            // SAFETY: the descriptor was not listed, and it has nothing in it.
            unsafe { CacheDesc::free(desc, &self.meta, &self.platform) };
        };
        if let Some(order) = self.order_of_2004() {
            // SAFETY: as below.
            return unsafe { order.list(desc, &gate.online(&self.cpus)) }.inspect_err(not_listed);
        }
        described().begin_to_live(&self.platform);
        // SAFETY: the descriptor is new; a destroy frees it when it is off the list and not pinned.
        let id = unsafe { self.registry.list(&self.platform, desc) }.inspect_err(not_listed)?;
        // SAFETY: only this create knows the id, so no other thread can destroy the cache.
        self.tell(unsafe { desc.as_ref() }, CacheStep::Listed);
        Ok(id)
    }

    /// Makes room for a listed cache in the areas, and slots, if the embedder wants them eagerly. Returns `false` if
    /// there is no memory.
    #[inline(never)]
    fn make_ready(&self, id: CacheId, online: &OnlineCpus<'_>) -> bool {
        self.widen_areas(online, SlotIndex(id.index))
            && (self.config.population != Population::Eager || self.make_slots(id, online))
    }

    /// Enables the slots of a new cache on the online CPUs. Returns `false` if it could not enable all of them.
    fn make_slots(&self, id: CacheId, online: &OnlineCpus<'_>) -> bool {
        let online = online.set();
        self.registry.pin(&self.platform, id).is_some_and(|cache| {
            let enabled = self.enable_on(&cache, &online);
            self.tell(&cache, CacheStep::SlotsMade { cpus: &online });
            enabled
        })
    }

    /// The cache of this name, if one is listed.
    pub fn find(&self, name: &str) -> Option<CacheId> {
        self.registry.find(&self.platform, name)
    }

    /// The descriptor of a cache, for handles that make sure themselves that the cache lives while they use it; `None`
    /// if the id names no cache.
    pub fn descriptor(&self, id: CacheId) -> Option<NonNull<CacheDesc>> {
        self.registry.pin(&self.platform, id).map(|cache| NonNull::from(&*cache))
    }
}
