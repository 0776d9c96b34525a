//! Lock ranks: one total order, asserted at each acquire in debug builds (I29).
//!
//! A thread may take a lock only if it holds none of the same or a higher rank. The exception is a whole rank taken in
//! ascending order of index (all CPU controls, for stopping several CPUs with one fence), which says so by its own
//! call. The platform keeps one [`HeldRanks`] a thread; release builds count no ranks.
//!
//! It also knows how many forks of the thread are under way: more than one if a signal handler that runs between two
//! fork handlers forks. What a fork takes is not noted as held, because the thread may begin operations under it, whose
//! ranks are asserted as usual. If the fork interrupted an operation (in a signal handler), the ranks of that operation
//! would contradict those that come during the fork: then ranks are counted, and not asserted.

use core::marker::PhantomData;

use super::{Cell, Park};

/// Keeps a guard on the thread that took its lock, whose ranks say so, and whose token the gate knows.
pub(crate) type OfThread = PhantomData<*const ()>;

/// The place of a lock in the one total order. Lower ranks are taken first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// The hotplug gate.
    Gate,
    /// The registry of caches.
    Registry,
    /// The life of one cache: its state, and whether its slots may be enabled.
    Life,
    /// The control of one CPU: the right to take its magazines away.
    Cpu,
    /// The depot of a cache on a node.
    Depot,
    /// The slab lists of a cache on a node.
    Node,
    /// The page heap.
    Pages,
    /// The metadata arena.
    Meta,
    /// Statistics and listeners' bookkeeping.
    Stats,
}

/// How many ranks there are.
const RANKS: usize = Rank::Stats as usize + 1;

/// Which ranks a thread holds, and how often. One for each thread, kept by the platform.
#[derive(Debug)]
pub struct HeldRanks {
    counts: [Cell<u16>; RANKS],
    forks: Cell<u8>,
    /// Whether the outermost of them interrupted an operation.
    interrupted: Cell<bool>,
}

impl HeldRanks {
    /// A thread that holds no lock.
    pub const fn new() -> Self {
        Self { counts: [const { Cell::new(0) }; RANKS], forks: Cell::new(0), interrupted: Cell::new(false) }
    }

    /// How many forks of the thread are under way.
    pub fn forks(&self) -> u8 {
        self.forks.get()
    }

    /// A fork begins; returns whether it is the outermost.
    pub(crate) fn begin_fork(&self) -> bool {
        self.forks.set(self.forks.get() + 1);
        let outermost = self.forks.get() == 1;
        if outermost {
            self.interrupted.set(!self.is_empty());
        }
        outermost
    }

    /// A fork ends; returns whether it was the outermost.
    pub(crate) fn end_fork(&self) -> bool {
        self.forks.set(self.forks.get() - 1);
        let outermost = self.forks.get() == 0;
        if outermost {
            self.interrupted.set(false);
        }
        outermost
    }

    /// Notes that a lock of `rank` is about to be taken.
    ///
    /// # Panics
    /// If the thread holds a lock of a higher rank, or of the same rank where `same` is false.
    pub(super) fn acquire(&self, rank: Rank, same: bool) {
        let lowest_forbidden = rank as usize + usize::from(same);
        for held in lowest_forbidden..RANKS {
            assert!(
                self.counts[held].get() == 0 || self.interrupted.get(),
                "lock order: a lock was taken while one of the same or a higher rank was held (I29)"
            );
        }
        self.counts[rank as usize].set(self.counts[rank as usize].get() + 1);
    }

    pub(super) fn release(&self, rank: Rank) {
        self.counts[rank as usize].set(self.counts[rank as usize].get() - 1);
    }

    /// Whether the thread holds no lock of the engine except the gate, which it holds inside a hotplug callback: what
    /// the program's code may expect (I31, I34).
    pub fn at_most_gate(&self) -> bool {
        self.interrupted.get() || self.counts[Rank::Gate as usize + 1..].iter().all(|count| count.get() == 0)
    }

    /// Whether the thread holds no lock of the engine at all.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.get() == 0)
    }
}

impl Default for HeldRanks {
    fn default() -> Self {
        Self::new()
    }
}

/// Notes that the calling thread takes something of `rank`; `same`: although it may hold another of that rank. Debug
/// builds only.
#[inline]
pub(crate) fn hold<P: Park>(park: &P, rank: Rank, same: bool) {
    if cfg!(debug_assertions)
        && let Some(held) = park.held_ranks()
    {
        held.acquire(rank, same);
    }
}

/// Notes that the calling thread released it.
#[inline]
pub(crate) fn unhold<P: Park>(park: &P, rank: Rank) {
    if cfg!(debug_assertions)
        && let Some(held) = park.held_ranks()
    {
        held.release(rank);
    }
}
