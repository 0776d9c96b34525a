//! What the memory of this process is used for.

use kmem_core::pages::GRANULE;

use crate::checks;
use crate::instance::existing;

/// What memory is used for, in bytes. Figures of different places are of slightly different moments.
///
/// All that the process holds for objects is [`slabs`](Self::slabs) + [`large`](Self::large) + [`idle`](Self::idle);
/// slabs are what is in use, cached and free on them, and what their layout leaves over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Memory {
    /// Objects of caches (the general ones serve all sizes up to 32 KiB) that the program holds.
    pub in_use: usize,
    /// Free objects in the slots of CPUs and in depots.
    pub cached: usize,
    /// How many those are.
    pub cached_objects: usize,
    /// Free objects on slabs. Of these, whole pages may have been released.
    pub free: usize,
    /// How many those are.
    pub free_objects: usize,
    /// All slabs.
    pub slabs: usize,
    /// Slabs without an object in use.
    pub empty_slabs: usize,
    /// Large objects: those that are no cache's.
    pub large: usize,
    /// How many those are.
    pub large_objects: usize,
    /// Free runs of pages that still hold memory.
    pub idle: usize,
    /// Address space for objects that is usable now, whether it holds memory or not.
    pub committed: usize,
    /// The allocator's own tables.
    pub own: usize,
}

/// What memory is used for now. Costs O(caches + large objects); takes the locks that slow paths take.
///
/// ```
/// let memory = kmem::memory();
/// println!("{} bytes in use, {} cached", memory.in_use, memory.cached);
/// ```
#[doc(alias = "mallinfo")]
pub fn memory() -> Memory {
    let Some(engine) = existing() else { return Memory::default() };
    let (pages, large) = (engine.page_stats(), engine.large_stats());
    let mut memory = Memory {
        large: large.granules * GRANULE,
        large_objects: large.objects,
        idle: pages.dirty * GRANULE,
        committed: pages.committed * GRANULE,
        own: engine.meta_bytes(),
        ..Memory::default()
    };
    engine.for_each_cache(|cache| {
        let cached = cache.in_slots + cache.in_depot;
        memory.in_use += cache.live * cache.stride;
        memory.cached += cached * cache.stride;
        memory.cached_objects += cached;
        memory.free += cache.free * cache.stride;
        memory.free_objects += cache.free;
        memory.slabs += cache.bytes;
        memory.empty_slabs += cache.bytes.checked_div(cache.slabs).map_or(0, |bytes| cache.empty_slabs * bytes);
    });
    let [(objects, bytes), (large_objects, large)] = checks::in_use();
    let _ = objects;
    memory.in_use += bytes;
    memory.large += large;
    memory.large_objects += large_objects;
    memory
}
