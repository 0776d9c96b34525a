//! How many objects a magazine holds, and the batch in which objects move between floors.

/// Most objects that one batch moves: the bound of work under a lock (I41).
pub const BATCH_MAX: usize = 64;

/// Objects that a new magazine holds, by object size: what the 2004 code chose, so that a CPU caches between 16 and 192
/// KiB of a cache of any size, and large objects are hardly cached at all.
pub const fn start_capacity(size: usize) -> usize {
    match size {
        0..=256 => 120,
        257..=1024 => 54,
        1025..=4096 => 24,
        4097..=131_072 => 8,
        _ => 1,
    }
}

/// A few objects in the hands of one thread, between two containers (I7).
pub struct Batch {
    len: usize,
    objects: [usize; BATCH_MAX],
}

impl Batch {
    /// No object.
    pub const fn new() -> Self {
        Self { len: 0, objects: [0; BATCH_MAX] }
    }

    /// The objects.
    pub fn as_slice(&self) -> &[usize] {
        &self.objects[..self.len]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the last object out.
    pub fn pop(&mut self) -> Option<usize> {
        self.len = self.len.checked_sub(1)?;
        Some(self.objects[self.len])
    }

    /// Puts an object in.
    ///
    /// # Panics
    /// If [`BATCH_MAX`] objects are in it.
    pub fn push(&mut self, object: usize) {
        self.objects[self.len] = object;
        self.len += 1;
    }

    /// Lets `fill` write into the free places, at most `want` of them, and takes over as many as it says.
    pub fn fill(&mut self, want: usize, fill: impl FnOnce(&mut [usize]) -> usize) -> usize {
        let end = (self.len + want).min(BATCH_MAX);
        let added = fill(&mut self.objects[self.len..end]);
        debug_assert!(self.len + added <= end);
        self.len += added;
        added
    }

    /// Forgets all but the first `len` objects: they are somewhere else now.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets the first `count` objects: they are somewhere else now.
    pub fn drop_front(&mut self, count: usize) {
        self.objects.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Puts the objects in the opposite order.
    pub fn reverse(&mut self) {
        self.objects[..self.len].reverse();
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
