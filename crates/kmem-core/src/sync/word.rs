//! The word of a lock: it says which thread holds the lock.
//!
//! ```text
//! 0                 free
//! token | bits      held by the thread of this token; CONTENDED: some thread may sleep; FORK: taken for a fork
//! ```
//! A lock is taken by one compare-and-swap, which writes the owner with it: there is no moment at which a lock is held
//! and its word does not say by whom. So a thread that finds itself in a signal handler knows of every lock whether it
//! holds it itself further up in its stack, and a fork can tell (see [`fork`](super::fork)):
//!
//! - *It is free, or another thread's*: the fork takes it, with the mark FORK.
//! - *It is the thread's own*: the handler interrupted the operation that holds it. No other thread is in it, and the
//!   operation goes on when the handler returns, in the parent and in the child. The fork leaves it as it is.
//! - *It is the thread's own, for a fork*: what was taken for a fork was taken between two operations, so the thread
//!   may begin an operation under it. A fork handler of the program that allocates does so.
//!   [`try_take`](Word::try_take) lets it pass, and [`release`](Word::release) leaves it held.
//!
//! # The token
//! It is [`Park::thread_token`](super::Park::thread_token), the number that the platform has for a thread anyway (on
//! Linux the thread pointer, which is one load). It differs between all threads that live, so no two threads can be
//! mistaken for each other, however many there were before: numbers from a counter would wrap around some day, and cost
//! a field of each thread. Its two lowest bits are 0, and carry the marks. A thread keeps it over fork, because the
//! child's thread has its parent's thread pointer. A platform that sleeps on half of a word sees the marks in its lower
//! half; two owners whose lower halves are equal only let a thread sleep on, which the mark CONTENDED wakes as usual.

use super::{AtomicUsize, Ordering};

/// Some thread may sleep until the word changes.
pub(super) const CONTENDED: usize = 1;
/// Taken for a fork, between two operations.
pub(super) const FORK: usize = 2;
const MARKS: usize = CONTENDED | FORK;

/// The word. 0 is free.
#[repr(transparent)]
#[derive(Debug)]
pub struct Word(pub AtomicUsize);

/// The thread that holds a word of this value; 0: none does.
#[inline]
pub fn owner(value: usize) -> usize {
    value & !MARKS
}

impl Word {
    /// A free word.
    pub fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The value at this moment.
    #[inline]
    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes the word if it is free.
    #[inline]
    pub fn take_free(&self, me: usize) -> bool {
        self.0.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether the thread took the word for a fork, which is under way.
    #[inline]
    pub fn is_mine_for_fork(&self, me: usize) -> bool {
        self.value() & !CONTENDED == me | FORK
    }

    /// Takes the word if it is free, or lets the thread pass that took it for a fork.
    #[inline]
    pub fn try_take(&self, me: usize) -> bool {
        self.take_free(me) || self.is_mine_for_fork(me)
    }

    /// Takes the word if it is free; otherwise makes sure that the thread is woken when it is, and returns the value to
    /// sleep on. A thread that has slept cannot know whether others still do, so it takes the word with the mark.
    #[cold]
    pub(super) fn take_or_mark(&self, me: usize) -> Option<usize> {
        loop {
            let seen = self.value();
            let (next, order) = if seen == 0 {
                (me | CONTENDED, Ordering::Acquire)
            } else if seen & CONTENDED == 0 {
                (seen | CONTENDED, Ordering::Relaxed)
            } else {
                return Some(seen);
            };
            if self.0.compare_exchange(seen, next, order, Ordering::Relaxed).is_ok() {
                return (seen != 0).then_some(next);
            }
        }
    }

    /// Marks a word that is held, and returns the value to sleep on; `None` once it is free.
    #[cold]
    pub(crate) fn mark(&self) -> Option<usize> {
        let mut seen = self.0.load(Ordering::Acquire);
        while seen != 0 && seen & CONTENDED == 0 {
            match self.0.compare_exchange(seen, seen | CONTENDED, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => return Some(seen | CONTENDED),
                Err(now) => seen = now,
            }
        }
        (seen != 0).then_some(seen)
    }

    /// Releases the word, and returns whether a thread may sleep on it. What was taken for a fork stays taken until the
    /// fork is over.
    #[inline]
    pub(crate) fn release(&self) -> bool {
        if self.value() & FORK != 0 {
            return false;
        }
        self.0.swap(0, Ordering::Release) & CONTENDED != 0
    }

    /// Releases a word that [`take_free`](Self::take_free) took, and that no thread sleeps on.
    #[inline]
    pub fn free(&self) {
        self.0.store(0, Ordering::Release);
    }
}

impl Default for Word {
    fn default() -> Self {
        Self::new()
    }
}
