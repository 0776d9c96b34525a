//! Purging: releasing the memory of free runs (they stay committed, and read as zero), or their address space too.
//!
//! A run is off its list while it is purged, and no lock is held during the call to the source. What other threads free
//! meanwhile is left for the next time, so each of these functions ends.

use super::state::{BINS, CLEAN, DIRTY, Found, NIL, PageHeap, State};
use super::table::{GRANULE, KIND_CLEAN, KIND_RAW};
use crate::host::Host;

impl PageHeap {
    /// Releases the memory of all free runs, and returns the bytes. What other threads free meanwhile is left for the
    /// next time.
    pub(crate) fn purge<P: Host>(&self, platform: &P) -> usize {
        self.purge_some(platform, |state| state.stats.dirty)
    }

    /// Ends a period of decay: releases the memory of the free runs that were not needed for some periods. Returns the
    /// bytes, and whether others hold memory.
    ///
    /// The lock is held for a bin at a time; as dirty runs are limited, so is their number.
    pub(crate) fn decay<P: Host>(&self, platform: &P) -> (usize, bool) {
        {
            let mut state = self.state.lock(platform);
            let State { bounds, stats, .. } = &mut *state;
            bounds.end_period(stats);
        }
        (0..BINS).for_each(|bin| self.age_bin(&mut self.state.lock(platform), bin));
        let mut granules = 0;
        for bin in (0..BINS).rev() {
            loop {
                let found = self.take_old(&mut self.state.lock(platform), bin);
                let Some(run) = found else { break };
                self.purge_run(platform, run);
                granules += run.len;
            }
        }
        (granules * GRANULE, self.state.lock(platform).stats.dirty > 0)
    }

    /// Releases the memory of free runs, of `budget` granules if there are so many. Returns the bytes. Long runs go
    /// first, and their ends, so that what serves small requests stays.
    pub(super) fn purge_some<P: Host>(&self, platform: &P, budget: impl FnOnce(&mut State) -> usize) -> usize {
        let mut state = self.state.lock(platform);
        let budget = budget(&mut state);
        let mut left = budget;
        while left > 0 {
            let Some(bin) = state.bins[DIRTY].iter().rposition(|head| *head != NIL) else { break };
            let head = state.bins[DIRTY][bin] as usize;
            let mut run = self.remove(&mut state, head);
            if run.len > left {
                self.insert(&mut state, run.part(run.first, run.len - left));
                run = run.part(run.first + run.len - left, left);
                self.set_aside(run.first, run.len);
            }
            drop(state);
            self.purge_run(platform, run);
            left -= run.len;
            state = self.state.lock(platform);
        }
        (budget - left) * GRANULE
    }

    /// Releases the memory of a run that was taken off its list: no other thread has it meanwhile, so no lock is held
    /// during the call to the source.
    fn purge_run<P: Host>(&self, platform: &P, run: Found) {
        // SAFETY: the run is on no list, so no other thread uses it.
        unsafe { platform.purge(self.maps.address_of(run.first), run.len * GRANULE) };
        self.merge(&mut self.state.lock(platform), Found { kind: KIND_CLEAN, ..run });
    }

    /// Releases the memory and the address space of all free runs, which have to be committed before they serve again:
    /// for the moment when something else in the process finds no room. Where runs share pages only the memory goes: a
    /// source commits whole pages, so a run that begins or ends inside of one could never be committed again.
    pub(crate) fn uncommit<P: Host>(&self, platform: &P) {
        if platform.page_size() > GRANULE {
            self.purge(platform);
            return;
        }
        let stats = self.state.lock(platform).stats;
        let mut budget = stats.dirty + stats.clean;
        for list in [DIRTY, CLEAN] {
            while budget > 0 {
                let mut state = self.state.lock(platform);
                let Some(bin) = state.bins[list].iter().position(|head| *head != NIL) else { break };
                let first = state.bins[list][bin] as usize;
                let run = self.remove(&mut state, first);
                drop(state);
                budget = budget.saturating_sub(run.len);
                // SAFETY: the run is on no list, so no other thread uses it.
                unsafe { platform.uncommit(self.maps.address_of(first), run.len * GRANULE) };
                let mut state = self.state.lock(platform);
                state.stats.committed -= run.len;
                state.stats.raw += run.len;
                self.merge(&mut state, Found { kind: KIND_RAW, ..run });
            }
        }
        self.withdraw_top(platform);
    }

    /// Moves the untouched rest of the window down over the raw run before it, so that both together serve a request
    /// that is too long for either. What was committed ahead is released, under the lock, because it belongs to no run.
    pub(super) fn withdraw_top<P: Host>(&self, platform: &P) {
        let mut state = self.state.lock(platform);
        let Some(head) = self.run_before(state.top).filter(|head| self.maps.entry(*head).kind() == KIND_RAW) else {
            return;
        };
        let ahead = state.committed - state.top;
        if ahead > 0 {
            // SAFETY: nothing was handed out above the top.
            unsafe { platform.uncommit(self.maps.address_of(state.top), ahead * GRANULE) };
            state.stats.committed -= ahead;
        }
        state.stats.raw -= self.remove(&mut state, head).len;
        (state.top, state.committed) = (head, head);
    }
}
