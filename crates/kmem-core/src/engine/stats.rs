//! What a cache holds. Any thread may ask at any time. Figures of different places are of slightly different moments.

use crate::cache::{CacheDesc, CacheId};
use crate::cpu::CpuState;
use crate::engine::{CachedOn, Engine};
use crate::pages::{LARGE_SIZES, LargeStats, PageStats};
use crate::platform::Platform;
use crate::sync::Ordering;

/// A cache at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes of an object, as asked for.
    pub object_size: usize,
    /// Bytes from one object to the next.
    pub stride: usize,
    /// Objects on all slabs, free or not.
    pub total: usize,
    /// Objects that users hold: `total` less all that is free or cached.
    pub live: usize,
    /// Free objects in the slots of all CPUs.
    pub in_slots: usize,
    /// Free objects in the depot.
    pub in_depot: usize,
    /// Free objects on slabs.
    pub free: usize,
    /// Slabs.
    pub slabs: usize,
    /// Slabs without an object in use.
    pub empty_slabs: usize,
    /// Bytes of all slabs.
    pub bytes: usize,
    /// CPUs whose slot of this cache is enabled.
    pub cpus: usize,
    /// Objects that a new magazine holds.
    pub capacity: usize,
    /// Objects a slab.
    pub slab_objects: usize,
    /// Bytes of a slab.
    pub slab_bytes: usize,
    /// The most objects that were ever off their slabs at once, in use or cached: the sum over nodes, each at its own
    /// time.
    pub high: usize,
    /// Slabs made since the beginning.
    pub grown: usize,
    /// Slabs released since the beginning.
    pub reaped: usize,
    /// How often a depot or slabs handed objects out, a batch at a time, since the beginning.
    pub refills: usize,
    /// How often a depot or slabs took objects back, a batch at a time, since the beginning.
    pub flushes: usize,
    /// Allocations that failed.
    pub failures: usize,
}

/// A CPU at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CpuStats {
    /// Its state.
    pub state: CpuState,
    /// It was taken down by name, and stays down until it is brought up by name.
    pub held_down: bool,
    /// It has an area: something was cached there since it came up.
    pub has_area: bool,
    /// Objects that were taken out of its slots since the beginning: it left, was idle, or a cache was shrunk or
    /// destroyed.
    pub drained: usize,
}

impl<P: Platform> Engine<P> {
    /// The figures of one cache; `None` if the id names no cache.
    pub fn with_stats<R>(&self, id: CacheId, read: impl FnOnce(&CacheStats<'_>) -> R) -> Option<R> {
        let cache = self.registry.pin(&self.platform, id)?;
        // SAFETY: the cache is pinned.
        let stats = unsafe { self.stats(&cache) };
        Some(self.inside.run(&self.platform, &cache, || read(&stats)))
    }

    /// Calls `visit` with the figures of every cache, with no lock held. A cache that is being destroyed waits until
    /// its turn is over; `visit` itself cannot destroy the one that it looks at.
    pub fn for_each_cache(&self, mut visit: impl FnMut(&CacheStats<'_>)) {
        self.registry.for_each(&self.platform, |cache| {
            // SAFETY: the cache is pinned.
            let stats = unsafe { self.stats(cache) };
            self.inside.run(&self.platform, cache, || visit(&stats));
        });
    }

    /// Calls `cache` with the index and the figures of every cache, in order of index, and before it `slot` with the
    /// CPU of each of its enabled slots and the bytes and objects in it. As for
    /// [`for_each_cache`](Self::for_each_cache), except that neither may call the engine. Costs O(caches + enabled
    /// slots).
    pub fn survey(&self, mut slot: impl FnMut(usize, CachedOn), mut cache: impl FnMut(CacheId, &CacheStats<'_>)) {
        self.registry.for_each(&self.platform, |desc| {
            let size = desc.layout().size;
            let stats = self.stats_by_slot(desc, |cpu, objects| slot(cpu, CachedOn { bytes: objects * size, objects }));
            cache(desc.id(), &stats);
        });
    }

    /// How many caches exist, among them the general ones that were used.
    pub fn cache_count(&self) -> usize {
        self.registry.count(&self.platform)
    }

    /// What the page heap holds, in granules.
    pub fn page_stats(&self) -> PageStats {
        self.heap.stats(&self.platform)
    }

    /// The large objects by their length: number `i` of the array is for those of 2^i granules up to twice as many.
    /// Costs as much as [`large_stats`](Self::large_stats).
    pub fn large_by_size(&self) -> [LargeStats; LARGE_SIZES] {
        let mut sizes = [LargeStats::default(); LARGE_SIZES];
        self.heap.for_each_large(&self.platform, |granules| {
            let size = &mut sizes[granules.max(1).ilog2() as usize % LARGE_SIZES];
            size.objects += 1;
            size.granules += granules;
        });
        sizes
    }

    /// The large objects. Costs O(runs of the heap); [`page_stats`](Self::page_stats) and
    /// [`slab_bytes`](Self::slab_bytes) cost less, and say how many bytes these are.
    pub fn large_stats(&self) -> LargeStats {
        self.heap.large(&self.platform)
    }

    /// Bytes of all slabs of all caches. Costs O(caches).
    pub fn slab_bytes(&self) -> usize {
        let mut bytes = 0;
        self.registry.for_each(&self.platform, |cache| {
            let slabs: usize = cache.nodes().map(|node| node.slabs.stats(&self.platform).slabs).sum();
            bytes += slabs * cache.layout().bytes();
        });
        bytes
    }

    /// Bytes of the engine's own descriptors and magazines that are in use.
    pub fn meta_used(&self) -> usize {
        self.meta.used(&self.platform)
    }

    /// Bytes mapped for the engine's own descriptors and magazines.
    pub fn meta_bytes(&self) -> usize {
        self.meta.bytes(&self.platform)
    }

    /// The figures of a cache.
    ///
    /// # Safety
    /// The cache is one of this engine's, and lives.
    pub unsafe fn stats<'a>(&self, cache: &'a CacheDesc) -> CacheStats<'a> {
        self.stats_by_slot(cache, |_, _| ())
    }

    /// The same; calls `slot` with each CPU whose slot is enabled, and how many objects are in it.
    fn stats_by_slot<'a>(&self, cache: &'a CacheDesc, mut slot: impl FnMut(usize, usize)) -> CacheStats<'a> {
        let (mut cpus, mut in_slots) = (0, 0);
        for cpu in cache.each_holder() {
            let objects = self.count_slot(cache, cpu);
            slot(cpu, objects);
            cpus += 1;
            in_slots += objects;
        }
        let mut stats = CacheStats {
            name: cache.name(),
            object_size: cache.object_size(),
            stride: cache.layout().size,
            total: 0,
            live: 0,
            in_slots,
            in_depot: 0,
            free: 0,
            slabs: 0,
            empty_slabs: 0,
            bytes: 0,
            cpus,
            capacity: cache.capacity(),
            slab_objects: cache.layout().objects,
            slab_bytes: cache.layout().bytes(),
            high: 0,
            grown: 0,
            reaped: 0,
            refills: 0,
            flushes: 0,
            failures: cache.failures(),
        };
        let mut in_use = 0;
        for node in cache.nodes() {
            let slabs = node.slabs.stats(&self.platform);
            stats.in_depot += node.depot.count();
            stats.total += slabs.total;
            stats.slabs += slabs.slabs;
            stats.empty_slabs += slabs.empty;
            in_use += slabs.in_use;
            let depot = node.depot.traffic(&self.platform);
            stats.high += slabs.high;
            stats.reaped += slabs.reaped;
            stats.refills += slabs.refills + depot.refills;
            stats.flushes += slabs.flushes + depot.flushes;
        }
        stats.grown = stats.slabs + stats.reaped;
        stats.free = stats.total - in_use;
        stats.bytes = stats.slabs * cache.layout().bytes();
        stats.live = in_use.saturating_sub(stats.in_slots + stats.in_depot);
        stats
    }

    /// Calls `visit` with every enabled slot: its cache, its CPU, and how many objects are in it. As for
    /// [`for_each_cache`](Self::for_each_cache). Costs O(caches + enabled slots).
    pub fn for_each_slot(&self, mut visit: impl FnMut(&CacheDesc, usize, usize)) {
        self.registry.for_each_awake(&self.platform, |cache| {
            cache.each_holder().for_each(|cpu| {
                let objects = self.count_slot(cache, cpu);
                self.inside.run(&self.platform, cache, || visit(cache, cpu, objects));
            });
        });
    }

    /// The state of a CPU at this moment; `None` if it does not exist.
    pub fn cpu_stats(&self, cpu: usize) -> Option<CpuStats> {
        let control = self.cpus.get(cpu)?;
        let drained = control.drained.load(Ordering::Relaxed);
        let control = control.lock.lock(&self.platform);
        Some(CpuStats {
            state: control.state(),
            held_down: control.held_down,
            has_area: control.area.is_some() && control.state() == CpuState::Online,
            drained,
        })
    }

    /// Objects in the slot of a cache on a CPU, under the CPU's control.
    pub(super) fn count_slot(&self, cache: &CacheDesc, cpu: usize) -> usize {
        let Some(control) = self.cpus.get(cpu) else { return 0 };
        let control = control.lock.lock(&self.platform);
        // SAFETY: the control is held, so the area stays mapped; a section may move the cursor meanwhile.
        control.area.map_or(0, |area| unsafe { area.count(cache.slot()) })
    }
}
