//! Sets of CPUs: one bit a CPU, up to [`MAX_CPUS`].
//!
//! A set is 128 bytes, which is much on a stack that is not ours. So slow paths pass sets by reference, change them in
//! place, and walk over a shared set without a copy of it ([`AtomicCpuSet::iter`]).

use crate::sync::{AtomicU64, MODEL, Ordering};

/// CPU ids are below this on every platform. A model has fewer: each word of a set is an atomic, whose order its
/// checker explores.
pub const MAX_CPUS: usize = if MODEL { 64 } else { 1024 };
const WORDS: usize = MAX_CPUS / 64;

/// A set of CPU ids.
///
/// ```
/// use kmem_core::cpu::CpuSet;
///
/// let mut set = CpuSet::first(3);
/// set.insert(70);
/// set.remove(1);
/// assert!(set.contains(70) && set.iter().eq([0, 2, 70]));
/// set.retain(|cpu| cpu < 64);
/// assert_eq!((set.len(), set.words()[0]), (2, 0b101));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet {
    words: [u64; WORDS],
}

impl CpuSet {
    /// The set of no CPU, to be passed by reference.
    pub const NONE: &'static Self = &Self::new();

    /// No CPU.
    ///
    /// ```
    /// use kmem_core::cpu::CpuSet;
    ///
    /// assert!(CpuSet::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The CPUs `0..count`.
    ///
    /// ```
    /// use kmem_core::cpu::CpuSet;
    ///
    /// assert!(CpuSet::first(2).iter().eq([0, 1]));
    /// ```
    pub fn first(count: usize) -> Self {
        let mut set = Self::new();
        (0..count).for_each(|cpu| set.insert(cpu));
        set
    }

    /// Just this CPU.
    ///
    /// ```
    /// use kmem_core::cpu::CpuSet;
    ///
    /// assert!(CpuSet::of(5).iter().eq([5]));
    /// ```
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

    /// Removes the CPUs for which `stays` returns `false`.
    ///
    /// ```
    /// use kmem_core::cpu::CpuSet;
    ///
    /// let mut even = CpuSet::first(6);
    /// even.retain(|cpu| cpu % 2 == 0);
    /// assert!(even.iter().eq([0, 2, 4]));
    /// ```
    pub fn retain(&mut self, mut stays: impl FnMut(usize) -> bool) {
        for index in 0..WORDS {
            for bit in bits(self.words[index]) {
                if !stays(index * 64 + bit) {
                    self.words[index] &= !(1 << bit);
                }
            }
        }
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.words[cpu / 64] & (1 << (cpu % 64)) != 0
    }

    /// The set as a kernel reads one: a bit a CPU, in words from the lowest on.
    ///
    /// ```
    /// use kmem_core::cpu::CpuSet;
    ///
    /// assert_eq!(CpuSet::of(65).words()[..2], [0, 2]);
    /// ```
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The same, for a kernel to write.
    ///
    /// ```
    /// use kmem_core::cpu::CpuSet;
    ///
    /// let mut set = CpuSet::new();
    /// set.words_mut()[0] = 0b11;
    /// assert_eq!(set, CpuSet::first(2));
    /// ```
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
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
        each(|index| self.words[index])
    }
}

/// The numbers of the bits that are set, in ascending order.
fn bits(word: u64) -> impl Iterator<Item = usize> {
    let mut left = word;
    core::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
        left &= left - 1;
        Some(bit)
    })
}

/// The CPUs of a set whose words are `word`, each of which is read once.
fn each(word: impl Fn(usize) -> u64) -> impl Iterator<Item = usize> {
    let (mut next, mut left) = (0, 0);
    core::iter::from_fn(move || {
        while left == 0 {
            if next == WORDS {
                return None;
            }
            left = word(next);
            next += 1;
        }
        let bit = left.trailing_zeros() as usize;
        left &= left - 1;
        Some((next - 1) * 64 + bit)
    })
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

/// A set of CPUs that threads change one CPU at a time. What is read from it is a hint, unless the reader holds the
/// lock that orders the writers.
#[derive(Debug)]
pub(crate) struct AtomicCpuSet {
    words: [AtomicU64; WORDS],
}

impl AtomicCpuSet {
    /// No CPU.
    pub(crate) fn new() -> Self {
        Self { words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Adds a CPU below [`MAX_CPUS`].
    pub(crate) fn insert(&self, cpu: usize) {
        self.words[cpu / 64].fetch_or(1 << (cpu % 64), Ordering::AcqRel);
    }

    /// Removes a CPU below [`MAX_CPUS`].
    pub(crate) fn remove(&self, cpu: usize) {
        self.words[cpu / 64].fetch_and(!(1 << (cpu % 64)), Ordering::AcqRel);
    }

    /// Whether the CPU is in the set.
    pub(crate) fn contains(&self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.words[cpu / 64].load(Ordering::Acquire) & (1 << (cpu % 64)) != 0
    }

    /// What the set holds, word by word.
    pub(crate) fn snapshot(&self) -> CpuSet {
        CpuSet { words: core::array::from_fn(|index| self.words[index].load(Ordering::Acquire)) }
    }

    /// The CPUs in ascending order, as the set is when the walk comes to their word.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        each(|index| self.words[index].load(Ordering::Acquire))
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

    #[test]
    fn retains_what_is_wanted() {
        let mut set: CpuSet = [0, 1, 63, 64, 1023].into_iter().collect();
        set.retain(|cpu| cpu % 2 == 1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 63, 1023]);
        set.retain(|_| false);
        assert!(set.is_empty());
    }

    #[test]
    fn a_shared_set_is_walked_as_it_is() {
        let set = AtomicCpuSet::new();
        [1023, 0, 64].into_iter().for_each(|cpu| set.insert(cpu));
        let mut walked = Vec::new();
        for cpu in set.iter() {
            walked.push(cpu);
            set.remove(cpu);
        }
        assert_eq!(walked, [0, 64, 1023]);
        assert!(set.iter().next().is_none());
    }
}
