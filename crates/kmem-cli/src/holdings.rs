//! What a process holds: its caches and large blocks with their bytes, and the sums of all.
//!
//! This is what `kmem info PID`, `kmem top` and `kmem metrics` show, wherever it was read.
//!
//! ```text
//! committed   address space for objects that is usable
//!   in use    objects that the program holds: of caches, and large blocks
//!   cached    free objects in the slots of CPUs and in depots
//!   free      free objects on slabs, and free pages that still hold memory
//!   purged    free pages whose memory was released
//! ```
//! What is left of `committed` is what the layout of slabs leaves over, and what was not handed out so far.

#![forbid(unsafe_code)]

use kmem::CacheStats;
use kmem::status::{LargeRow, Snapshot};
use serde::Serialize;

/// A cache; the field names are the JSON keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheRow {
    pub name: String,
    /// Bytes of an object, as asked for.
    pub object_size: u64,
    /// Bytes from one object to the next.
    pub stride: u64,
    pub objects_per_slab: u64,
    pub pages_per_slab: u64,
    /// Objects that the program holds.
    pub active_objects: u64,
    /// Objects on all slabs.
    pub total_objects: u64,
    /// Slabs with an object that is not free on them.
    pub active_slabs: u64,
    pub total_slabs: u64,
    /// Free objects in the slots of CPUs, and in depots.
    pub cached_on_cpus: u64,
    pub cached_in_depots: u64,
    /// Free objects on slabs.
    pub free_objects: u64,
    /// The most objects that were ever in use or cached.
    pub high_mark: u64,
    /// Slabs made, and released.
    pub grown: u64,
    pub reaped: u64,
    /// Batches that depots and slabs handed out, and took back.
    pub refills: u64,
    pub flushes: u64,
    /// Allocations that failed.
    pub failures: u64,
    /// Objects that a new magazine holds, and CPUs that have one.
    pub magazine: u64,
    pub cpus: u64,
    /// Bytes of the objects in use.
    pub in_use_bytes: u64,
    /// Bytes of the objects in slots and depots.
    pub cached_bytes: u64,
    /// Bytes of the free objects on slabs.
    pub free_bytes: u64,
    /// Bytes of all slabs: what the cache holds.
    pub held_bytes: u64,
}

impl CacheRow {
    /// The row of these figures.
    pub fn of(stats: &CacheStats<'_>) -> Self {
        let bytes = |objects: usize| (objects as u64).saturating_mul(stats.stride as u64);
        Self {
            name: stats.name.to_string(),
            object_size: stats.object_size as u64,
            stride: stats.stride as u64,
            objects_per_slab: stats.slab_objects as u64,
            pages_per_slab: stats.slab_bytes as u64 / PAGE,
            active_objects: stats.live as u64,
            total_objects: stats.total as u64,
            active_slabs: stats.slabs.saturating_sub(stats.empty_slabs) as u64,
            total_slabs: stats.slabs as u64,
            cached_on_cpus: stats.in_slots as u64,
            cached_in_depots: stats.in_depot as u64,
            free_objects: stats.free as u64,
            high_mark: stats.high as u64,
            grown: stats.grown as u64,
            reaped: stats.reaped as u64,
            refills: stats.refills as u64,
            flushes: stats.flushes as u64,
            failures: stats.failures as u64,
            magazine: stats.capacity as u64,
            cpus: stats.cpus as u64,
            in_use_bytes: bytes(stats.live),
            cached_bytes: bytes(stats.in_slots.saturating_add(stats.in_depot)),
            free_bytes: bytes(stats.free),
            held_bytes: stats.bytes as u64,
        }
    }
}

/// Bytes of a page, in which slabs are counted.
const PAGE: u64 = 4096;

/// An account; the field names are the JSON keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    pub name: String,
    /// The account that it is within.
    pub parent: Option<String>,
    /// Bytes that may be charged; null is no limit.
    pub limit_bytes: Option<u64>,
    /// Bytes that are charged, and the most that ever were.
    pub used_bytes: u64,
    pub high_bytes: u64,
    /// Allocations that failed because of it.
    pub refused: u64,
}

/// Large blocks of about one length; the field names are the JSON keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LargeBlocks {
    /// Bytes that each has at least; all have less than twice as many.
    pub from_bytes: u64,
    pub blocks: u64,
    pub bytes: u64,
}

impl LargeBlocks {
    pub fn of(row: LargeRow) -> Self {
        Self { from_bytes: row.from, blocks: row.objects, bytes: row.bytes }
    }
}

/// All that a process holds; the field names are the JSON keys.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Holdings {
    /// Objects of caches and large blocks that the program holds.
    pub in_use_bytes: u64,
    /// Free objects in slots and depots.
    pub cached_bytes: u64,
    /// Free objects on slabs, and free pages that still hold memory.
    pub free_bytes: u64,
    /// Address space for objects that is usable, whether it holds memory or not.
    pub committed_bytes: u64,
    /// Of it, what holds memory now, as the kernel counts; null if it does not say.
    pub resident_bytes: Option<u64>,
    /// Of that, what is in huge pages.
    pub huge_bytes: Option<u64>,
    /// Free pages whose memory was released.
    pub purged_bytes: u64,
    /// The allocator's own descriptors and magazines.
    pub metadata_bytes: u64,
    /// All slabs.
    pub slab_bytes: u64,
    /// Large blocks, which belong to no cache.
    pub large_bytes: u64,
    /// Free pages that still hold memory.
    pub idle_bytes: u64,
    /// How many caches the process has; more than are listed if its page has no room for all.
    pub cache_count: u64,
    /// Those that have a slab or had one, by bytes held.
    pub caches: Vec<CacheRow>,
    /// Those in use, by length.
    pub large: Vec<LargeBlocks>,
    /// Its accounts, by name; null if only its page could be read, which has none.
    pub accounts: Option<Vec<AccountRow>>,
}

/// Sums and figures of the whole process that are not in its rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub committed: u64,
    pub purged: u64,
    pub idle: u64,
    pub metadata: u64,
    pub caches: u64,
}

impl Holdings {
    /// What the rows add up to.
    pub fn of(totals: Totals, mut caches: Vec<CacheRow>, large: Vec<LargeBlocks>) -> Self {
        caches.retain(|cache| cache.grown > 0);
        caches.sort_by(|a, b| b.held_bytes.cmp(&a.held_bytes).then_with(|| a.name.cmp(&b.name)));
        let sum = |figure: fn(&CacheRow) -> u64| caches.iter().map(figure).fold(0, u64::saturating_add);
        let large_bytes = large.iter().map(|row| row.bytes).fold(0, u64::saturating_add);
        Self {
            in_use_bytes: sum(|cache| cache.in_use_bytes).saturating_add(large_bytes),
            cached_bytes: sum(|cache| cache.cached_bytes),
            free_bytes: sum(|cache| cache.free_bytes).saturating_add(totals.idle),
            committed_bytes: totals.committed,
            resident_bytes: None,
            huge_bytes: None,
            purged_bytes: totals.purged,
            metadata_bytes: totals.metadata,
            slab_bytes: sum(|cache| cache.held_bytes),
            large_bytes,
            idle_bytes: totals.idle,
            cache_count: totals.caches,
            caches,
            large,
            accounts: None,
        }
    }

    /// What a page says.
    pub fn of_page(page: &Snapshot<'_>) -> Self {
        let totals = Totals {
            committed: page.committed_bytes(),
            purged: page.purged_bytes(),
            idle: page.idle_bytes(),
            metadata: page.metadata_bytes(),
            caches: page.cache_count() as u64,
        };
        let caches = page.caches().map(|stats| CacheRow::of(&stats)).collect();
        Self::of(totals, caches, page.large_objects().map(LargeBlocks::of).collect())
    }
}
