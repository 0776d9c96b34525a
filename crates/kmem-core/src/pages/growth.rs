//! The untouched rest of the window: committed in steps from the bottom, around whatever else lies in the way. All of
//! it with the heap's lock held.

use super::heap::{PageHeap, State, Use};
use super::runs::Found;
use super::table::{GRANULE, KIND_CLEAN, KIND_DIRTY, KIND_RAW};
use crate::platform::{CommitError, PageSource};

/// Granules committed at a time: 2 MiB, what a transparent huge page covers.
pub(super) const COMMIT_STEP: usize = (2 << 20) / GRANULE;
/// Places tried when something else lies in the window's way (the window is claimed, not held).
pub(super) const COMMIT_TRIES: usize = 64;

impl PageHeap {
    /// Takes `want` granules from the untouched rest of the window, and answers their kind. Where the rest is too short
    /// for them, the free run before it helps out (not before: what is fresh is zero, and would have to be cleared
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
        let end = self.step_end(need);
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
        if what == Use::Dense {
            platform.fills(at, step * GRANULE);
        }
        state.committed += step;
        state.stats.committed += step;
        Ok(())
    }

    /// The end of the step that holds what lies before `granule`. Steps are those of the address space, which huge pages
    /// keep to; the window may begin in the middle of one.
    fn step_end(&self, granule: usize) -> usize {
        let before = self.maps.base / GRANULE % COMMIT_STEP;
        ((granule + before).next_multiple_of(COMMIT_STEP) - before).min(self.maps.granules)
    }

    /// Goes on `step` granules further, behind an obstacle, as one hopes; what is left before it becomes a free run.
    /// Steps are doubled, so an obstacle of any size is passed in few of them, for at most as much window again as
    /// it has.
    pub(super) fn skip(&self, state: &mut State, step: usize) {
        if state.top < state.committed {
            let rest = state.committed - state.top;
            self.merge(state, Found { first: state.top, len: rest, kind: KIND_CLEAN, age: 0 });
        }
        let next = self.step_end(state.committed + step);
        state.stats.skipped += next - state.committed;
        state.committed = next;
        state.top = next;
    }
}
