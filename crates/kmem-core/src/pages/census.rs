//! The large objects: counted by a walk on request, so that allocations need not count.

use super::state::PageHeap;
use super::table::{KIND_CLEAN, KIND_DIRTY, KIND_LARGE, KIND_RAW, KIND_SLAB};
use crate::host::Host;

/// Powers of two of granules that a large object may have.
pub const LARGE_SIZES: usize = 28;

/// Large objects at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LargeStats {
    /// How many.
    pub objects: usize,
    /// Granules of all of them.
    pub granules: usize,
}

impl PageHeap {
    /// The large objects. Costs O(runs) of the heap. What is handed out or taken back meanwhile is counted or not.
    pub(crate) fn large<P: Host>(&self, platform: &P) -> LargeStats {
        let mut stats = LargeStats::default();
        self.for_each_large(platform, |granules| {
            stats.objects += 1;
            stats.granules += granules;
        });
        stats
    }

    /// Calls `visit` with the granules of each large object, as [`large`](Self::large) counts them.
    pub(crate) fn for_each_large<P: Host>(&self, platform: &P, mut visit: impl FnMut(usize)) {
        let top = self.state.lock(platform).top;
        let mut granule = 0;
        while granule < top && self.maps.reaches(granule) {
            let entry = self.maps.entry(granule);
            let (kind, len) = (entry.kind(), entry.len());
            if kind == KIND_LARGE {
                visit(len);
            }
            // A first granule knows how long its run is; one that is being handed out may say anything.
            let is_first = matches!(kind, KIND_SLAB | KIND_LARGE | KIND_DIRTY | KIND_CLEAN | KIND_RAW);
            granule += if is_first { len.max(1) } else { 1 };
        }
    }
}
