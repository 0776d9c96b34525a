//! The untouched rest of the window: committed in steps from the bottom, around whatever else is mapped in the way. All
//! of it with the heap's lock held.

use super::state::{COMMIT_STEP, COMMIT_TRIES, Found, PageHeap, State, Use};
use super::table::{GRANULE, KIND_CLEAN, KIND_DIRTY, KIND_RAW};
use crate::host::{CommitError, PageSource};

/// The first step, and then as many granules as there are, up to a whole step: if memory is locked, all that is
/// committed is in memory at once, and a small program should have little.
const FIRST_STEP: usize = (512 << 10) / GRANULE;
/// The first granules of the window (8 MiB) are never said to be [filled](PageSource::fills), for the same reason.
const NOT_FILLED: usize = 4 * COMMIT_STEP;

impl PageHeap {
    /// Takes `want` granules from the untouched rest of the window, and returns their kind. If the rest is too short
    /// for them, the free run before it helps out (not earlier: what is fresh is zero, and would have to be cleared
    /// together with a dirty run).
    pub(super) fn grow<P: PageSource>(&self, platform: &P, state: &mut State, want: usize, what: Use) -> Option<Found> {
        for attempt in 0..COMMIT_TRIES {
            let tail = if state.top + want > self.maps.granules { self.tail(state) } else { 0 };
            let need = state.top - tail + want;
            if need > self.maps.granules {
                return None;
            }
            if need > state.committed && self.commit(platform, state, need, what) == Err(CommitError::Taken) {
                self.skip(state, COMMIT_STEP << attempt.min(20));
                continue;
            }
            if need > state.committed {
                return None;
            }
            state.mix.note(want, what);
            let first = need - want;
            let mut found = Found { first, len: want, kind: KIND_CLEAN, age: 0 };
            if tail > 0 {
                found = self.remove(state, first).part(first, want);
            }
            self.raise_top(platform, state, need);
            return Some(found);
        }
        None
    }

    /// Everything below granule `need` is handed out. What gets its memory together with that counts as dirty.
    pub(super) fn raise_top<P: PageSource>(&self, platform: &P, state: &mut State, need: usize) {
        state.top = self.unit_end(platform, need).min(state.committed);
        if state.top > need {
            self.insert(state, Found { first: need, len: state.top - need, kind: KIND_DIRTY, age: 0 });
        }
    }

    /// Granule `at` of a clean run will be filled, and so will what lies around it: its step, if all of it is clean.
    pub(super) fn fills_units_of<P: PageSource>(&self, platform: &P, found: Found, at: usize) {
        let address = self.maps.address_of(at);
        let offset = (address & (COMMIT_STEP * GRANULE - 1)) / GRANULE;
        // A small window may begin in the middle of what would be a step.
        let Some(first) = at.checked_sub(offset) else { return };
        if first >= found.first.max(NOT_FILLED) && first + COMMIT_STEP <= found.first + found.len {
            platform.fills(self.maps.address_of(first), COMMIT_STEP * GRANULE);
        }
    }

    /// Length of the committed free run that ends where the untouched rest begins; 0 if there is none.
    pub(super) fn tail(&self, state: &State) -> usize {
        match self.run_before(state.top) {
            Some(head) if self.maps.entry(head).kind() != KIND_RAW => state.top - head,
            _ => 0,
        }
    }

    /// Commits up to granule `need`, by a full step if there is memory for it.
    pub(super) fn commit<P: PageSource>(
        &self,
        platform: &P,
        state: &mut State,
        need: usize,
        what: Use,
    ) -> Result<(), CommitError> {
        let step = state.committed.next_power_of_two().clamp(FIRST_STEP, COMMIT_STEP);
        let end = self.step_end(need, step).min(self.maps.granules);
        // Without entries there are no granules: an obstacle in the table's way is the end of the window.
        self.maps.extend(platform, end).map_err(|_| CommitError::NoMemory)?;
        let at = self.maps.address_of(state.committed);
        let (least, full) = (need - state.committed, end - state.committed);
        let mut step = full;
        // SAFETY: the range is inside the window, behind all that was committed.
        let mut done = unsafe { platform.commit(at, full * GRANULE) };
        if done.is_err() && least < full {
            step = least;
            // SAFETY: as above.
            done = unsafe { platform.commit(at, least * GRANULE) };
        }
        done?;
        if state.mix.next_is_filled(least, what) && state.committed >= NOT_FILLED {
            platform.fills(at, step * GRANULE);
        }
        state.committed += step;
        state.stats.committed += step;
        Ok(())
    }

    /// The end of the step of so many granules that ends with `granule`, or goes on behind it: steps are aligned to
    /// their size in address space, as huge pages are.
    fn step_end(&self, granule: usize, step: usize) -> usize {
        let address = self.maps.address_of(granule);
        granule + (address.next_multiple_of(step * GRANULE) - address) / GRANULE
    }

    /// Goes on `step` granules further, hoping to be past an obstacle; what is left before it becomes a free run. Steps
    /// are doubled, so an obstacle of any size is passed in few of them, at the cost of at most as much window again as
    /// it has.
    pub(super) fn skip(&self, state: &mut State, step: usize) {
        if state.top < state.committed {
            let rest = state.committed - state.top;
            self.merge(state, Found { first: state.top, len: rest, kind: KIND_CLEAN, age: 0 });
        }
        let next = self.step_end(state.committed + step, COMMIT_STEP).min(self.maps.granules);
        state.stats.skipped += next - state.committed;
        state.committed = next;
        state.top = next;
    }
}
