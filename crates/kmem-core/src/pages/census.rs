//! The large objects: counted by a walk on request, so that allocations need not count.

use super::state::PageHeap;
use super::table::{KIND_CLEAN, KIND_DIRTY, KIND_LARGE, KIND_RAW, KIND_SLAB};
use crate::host::Host;

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
        let top = self.state.lock(platform).top;
        let mut stats = LargeStats::default();
        let mut granule = 0;
        while granule < top && self.maps.reaches(granule) {
            let entry = self.maps.entry(granule);
            let (kind, len) = (entry.kind(), entry.len());
            if kind == KIND_LARGE {
                stats.objects += 1;
                stats.granules += len;
            }
            // A first granule knows how long its run is; one that is being handed out may say anything.
            let is_first = matches!(kind, KIND_SLAB | KIND_LARGE | KIND_DIRTY | KIND_CLEAN | KIND_RAW);
            granule += if is_first { len.max(1) } else { 1 };
        }
        stats
    }
}
