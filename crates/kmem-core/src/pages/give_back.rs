//! Giving back: the memory of free runs (they stay committed, and read as zero), or their address space too.
//!
//! A run is off its list while it goes back, and no lock is held over the call to the source. What others free
//! meanwhile is left for the next time, so each of these ends.

use super::heap::PageHeap;
use super::runs::{CLEAN, DIRTY, NIL};
use super::table::{GRANULE, KIND_CLEAN, KIND_RAW};
use crate::platform::Platform;

impl PageHeap {
    /// Gives the memory of all free runs back and answers how many bytes that were. What others free meanwhile is left
    /// for the next time.
    pub fn purge<P: Platform>(&self, platform: &P) -> usize {
        let dirty = self.state.lock(platform).stats.dirty;
        self.purge_some(platform, dirty)
    }

    /// Gives the memory of free runs back, until it was that of `budget` granules or no more is there; answers the
    /// bytes.
    pub(super) fn purge_some<P: Platform>(&self, platform: &P, budget: usize) -> usize {
        let mut bytes = 0;
        while bytes < budget * GRANULE {
            // Each run is ours alone while its memory goes back: no lock is held over the call to the source.
            let mut state = self.state.lock(platform);
            let Some(bin) = state.bins[DIRTY].iter().position(|head| *head != NIL) else { break };
            let first = state.bins[DIRTY][bin] as usize;
            let len = self.remove(&mut state, first);
            drop(state);
            // SAFETY: the run is on no list, so nobody else uses it.
            unsafe { platform.purge(self.maps.address_of(first), len * GRANULE) };
            bytes += len * GRANULE;
            self.merge(&mut self.state.lock(platform), first, len, KIND_CLEAN);
        }
        bytes
    }

    /// Gives the memory and the address space of all free runs back: they have to be committed before they serve again.
    /// For the moment when something else in the process finds no room.
    pub(crate) fn uncommit<P: Platform>(&self, platform: &P) {
        let stats = self.state.lock(platform).stats;
        let mut budget = stats.dirty + stats.clean;
        for list in [DIRTY, CLEAN] {
            while budget > 0 {
                let mut state = self.state.lock(platform);
                let Some(bin) = state.bins[list].iter().position(|head| *head != NIL) else { break };
                let first = state.bins[list][bin] as usize;
                let len = self.remove(&mut state, first);
                drop(state);
                budget = budget.saturating_sub(len);
                // SAFETY: the run is on no list, so nobody else uses it.
                unsafe { platform.uncommit(self.maps.address_of(first), len * GRANULE) };
                let mut state = self.state.lock(platform);
                state.stats.committed -= len;
                state.stats.raw += len;
                self.merge(&mut state, first, len, KIND_RAW);
            }
        }
        self.withdraw_top(platform);
    }

    /// Moves the untouched rest of the window down over the raw run before it, so that both together serve a request
    /// that is too long for either. What was committed ahead goes back; that happens under the lock, for it is
    /// nobody's run.
    pub(super) fn withdraw_top<P: Platform>(&self, platform: &P) {
        let mut state = self.state.lock(platform);
        let Some(head) = self.run_before(state.top).filter(|head| self.maps.entry(*head).kind() == KIND_RAW) else {
            return;
        };
        let ahead = state.committed - state.top;
        if ahead > 0 {
            // SAFETY: behind the top nothing was handed out.
            unsafe { platform.uncommit(self.maps.address_of(state.top), ahead * GRANULE) };
            state.stats.committed -= ahead;
        }
        state.stats.raw -= self.remove(&mut state, head);
        (state.top, state.committed) = (head, head);
    }
}
