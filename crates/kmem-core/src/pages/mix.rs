//! What the heap's memory is handed out for: which steps are worth a huge page.
//!
//! A step of the untouched rest is committed by whichever request happens to cross its edge. Where small objects fill
//! a program's memory, that request is as often a slab of larger objects, or an array, and the objects then fill the
//! step all the same. So the request alone does not decide, but what was handed out lately: a step counts as one that
//! will be [filled](crate::host::PageSource::fills) if at least a quarter of the last steps was dense. A program of
//! large buffers, of which it may touch the beginnings only, has no such quarter, and a request of a whole step or more
//! is its own affair.

use super::state::{COMMIT_STEP, Use};

/// A share of one in so many is enough.
const SHARE: usize = 4;

/// Granules that were handed out of the untouched rest; those of earlier steps count half, a quarter, ...
#[derive(Clone, Copy, Default)]
pub(super) struct Mix {
    dense: usize,
    all: usize,
}

impl Mix {
    /// Notes that so many granules are handed out.
    pub(super) fn note(&mut self, granules: usize, what: Use) {
        self.all += granules;
        if what == Use::Dense {
            self.dense += granules;
        }
    }

    /// Whether a step will be filled that is committed for a request of so many granules. Begins the next step.
    pub(super) fn next_is_filled(&mut self, granules: usize, what: Use) -> bool {
        let lately = *self;
        *self = Self { dense: self.dense / 2, all: self.all / 2 };
        what == Use::Dense || (granules < COMMIT_STEP && lately.dense > 0 && lately.dense * SHARE >= lately.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_small_objects_decides_for_requests_below_a_step() {
        let mut mix = Mix::default();
        assert!(!mix.next_is_filled(1, Use::Any), "nothing is known");
        mix.note(30, Use::Any);
        mix.note(10, Use::Dense);
        assert!(!mix.clone().next_is_filled(COMMIT_STEP, Use::Any));
        assert!(mix.next_is_filled(COMMIT_STEP - 1, Use::Any));
        // Half of each by now.
        mix.note(2, Use::Any);
        assert!(!mix.next_is_filled(1, Use::Any));
        assert!(mix.next_is_filled(1, Use::Dense));
    }
}
