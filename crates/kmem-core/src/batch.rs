//! The batch: a few objects in the hands of one thread, on their way between slots, depots and slabs.

/// The most objects that one batch moves: the bound of work under a lock (I41).
pub(crate) const BATCH_MAX: usize = 64;

/// A few objects in the hands of one thread, between two containers (I7).
pub(crate) struct Batch {
    len: usize,
    objects: [usize; BATCH_MAX],
}

impl Batch {
    /// No object.
    pub(crate) const fn new() -> Self {
        Self { len: 0, objects: [0; BATCH_MAX] }
    }

    /// The objects.
    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.objects[..self.len]
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the last object out.
    pub(crate) fn pop(&mut self) -> Option<usize> {
        self.len = self.len.checked_sub(1)?;
        Some(self.objects[self.len])
    }

    /// Puts an object in.
    ///
    /// # Panics
    /// If [`BATCH_MAX`] objects are in it.
    pub(crate) fn push(&mut self, object: usize) {
        self.objects[self.len] = object;
        self.len += 1;
    }

    /// Lets `fill` write into the free places, at most `want` of them, and takes over as many as it says.
    pub(crate) fn fill(&mut self, want: usize, fill: impl FnOnce(&mut [usize]) -> usize) -> usize {
        let end = (self.len + want).min(BATCH_MAX);
        let added = fill(&mut self.objects[self.len..end]);
        debug_assert!(self.len + added <= end);
        self.len += added;
        added
    }

    /// Forgets all but the first `len` objects: they are somewhere else now.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Puts objects that are in order of address into the order in which they are to be handed out, the first last.
    /// With a `stride` above 1, successive objects are not in the same cache line, if `stride` objects share one: each
    /// `stride`-th, then each `stride`-th from the second on, and so on.
    pub(crate) fn lay_out(&mut self, stride: usize) {
        if stride == 1 {
            return self.reverse();
        }
        let ordered = self.objects;
        let mut place = self.len;
        for first in 0..stride.min(self.len) {
            for object in ordered[first..self.len].iter().step_by(stride) {
                place -= 1;
                self.objects[place] = *object;
            }
        }
    }

    /// Puts the objects in the opposite order.
    pub(crate) fn reverse(&mut self) {
        self.objects[..self.len].reverse();
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_objects_are_apart_and_all_there() {
        for (len, stride) in [(60, 8), (60, 1), (7, 4), (64, 3), (1, 8), (0, 2)] {
            let mut batch = Batch::new();
            (0..len).for_each(|object| batch.push(object));
            batch.lay_out(stride);
            let far = |pair: &[usize]| pair[0].abs_diff(pair[1]) >= stride || len < 2 * stride;
            assert!(batch.as_slice().windows(2).all(far), "{len} by {stride}: {:?}", batch.as_slice());
            batch.objects[..len].sort_unstable();
            assert!(batch.as_slice().iter().copied().eq(0..len), "{len} by {stride}");
        }
    }
}
