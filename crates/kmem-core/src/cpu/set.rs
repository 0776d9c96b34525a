//! Sets of CPUs: one bit a CPU, up to [`MAX_CPUS`].

use crate::sync::{AtomicU64, MODEL, Ordering};

/// CPU ids are below this on every platform. A model has fewer: each word of a set is an atomic, whose order its
/// checker explores.
pub const MAX_CPUS: usize = if MODEL { 64 } else { 1024 };
const WORDS: usize = MAX_CPUS / 64;

/// A set of CPU ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet {
    words: [u64; WORDS],
}

impl CpuSet {
    /// No CPU.
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The CPUs `0..count`.
    pub fn first(count: usize) -> Self {
        let mut set = Self::new();
        (0..count).for_each(|cpu| set.insert(cpu));
        set
    }

    /// Just this CPU.
    pub fn of(cpu: usize) -> Self {
        let mut set = Self::new();
        set.insert(cpu);
        set
    }

    /// Adds a CPU; ids beyond [`MAX_CPUS`] are ignored.
    pub fn insert(&mut self, cpu: usize) {
        if cpu < MAX_CPUS {
            self.words[cpu / 64] |= 1 << (cpu % 64);
        }
    }

    /// Removes a CPU.
    pub fn remove(&mut self, cpu: usize) {
        if cpu < MAX_CPUS {
            self.words[cpu / 64] &= !(1 << (cpu % 64));
        }
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.words[cpu / 64] & (1 << (cpu % 64)) != 0
    }

    /// How many CPUs.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

impl Default for CpuSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut set = Self::new();
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

/// A set of CPUs that threads change one CPU at a time. A read of it is a hint unless the reader holds what orders the
/// writers.
#[derive(Debug)]
pub struct AtomicCpuSet {
    words: [AtomicU64; WORDS],
}

impl AtomicCpuSet {
    /// No CPU.
    pub fn new() -> Self {
        Self { words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Adds a CPU below [`MAX_CPUS`].
    pub fn insert(&self, cpu: usize) {
        self.words[cpu / 64].fetch_or(1 << (cpu % 64), Ordering::AcqRel);
    }

    /// Removes a CPU below [`MAX_CPUS`].
    pub fn remove(&self, cpu: usize) {
        self.words[cpu / 64].fetch_and(!(1 << (cpu % 64)), Ordering::AcqRel);
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.words[cpu / 64].load(Ordering::Acquire) & (1 << (cpu % 64)) != 0
    }

    /// What the set holds, word by word.
    pub fn snapshot(&self) -> CpuSet {
        CpuSet { words: core::array::from_fn(|index| self.words[index].load(Ordering::Acquire)) }
    }
}

impl Default for AtomicCpuSet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterates_in_order_and_ignores_what_is_out_of_range() {
        let set: CpuSet = [1023, 0, 64, 63, 5000].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 1023]);
        assert_eq!(set.len(), 4);
        assert!(!set.contains(5000));
    }
}
