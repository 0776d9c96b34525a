//! What locks ask of the world outside: a word to sleep on, and a name for each thread.

use super::{AtomicUsize, HeldRanks, OtherFirst, Rank, Waiters, Word};

/// What the calling thread does with a lock, as a simulator sees it.
#[derive(Clone, Copy, Debug)]
pub enum LockStep<'a> {
    /// The thread is about to take the lock with this word, and cannot while the word is not 0.
    Lock {
        /// The lock's rank.
        rank: Rank,
        /// The lock's word.
        word: &'a AtomicUsize,
    },
    /// The thread is about to take the lock with this word if it is free.
    TryLock {
        /// The lock's rank.
        rank: Rank,
        /// The lock's word.
        word: &'a AtomicUsize,
    },
    /// The thread has released a lock of this rank, or its side of the gate.
    Unlocked {
        /// The lock's rank.
        rank: Rank,
    },
}

/// Sleeping and waking on a word, and who a thread is.
///
/// # Safety
/// `thread_token` differs between threads that are alive, is never 0, is a multiple of 4, and stays the same for the
/// thread that goes on in a child made by fork; `held_ranks` belongs to the calling thread alone.
pub unsafe trait Park {
    /// Sleeps while `*word == expected`; may return early.
    fn wait(&self, word: &AtomicUsize, expected: usize);
    /// Wakes one thread that waits on `word`.
    fn wake_one(&self, word: &AtomicUsize);
    /// Wakes all threads that wait on `word`.
    fn wake_all(&self, word: &AtomicUsize);
    /// A number for the calling thread.
    fn thread_token(&self) -> usize;
    /// The lock ranks that the calling thread holds (asserted in debug builds only), and its forks. `None` if they are
    /// not known: then nothing is asserted, and the thread does not fork.
    fn held_ranks(&self) -> Option<&HeldRanks>;

    /// Lets other threads run for a while: the longer, the more tries there were.
    fn rest(&self, tries: u32);

    /// Where threads that sleep leave a note. `None` if no thread forks in a signal handler.
    fn waiters(&self) -> Option<&Waiters> {
        None
    }

    /// Called when a fork begins and holds no lock of the engine yet: for other locks that come before these.
    fn lock_outer(&self) {}

    /// Called when a fork has released all but what [`lock_outer`](Self::lock_outer) took.
    ///
    /// # Safety
    /// The calling thread, or the one it was forked from, has called `lock_outer`, and not this since.
    unsafe fn unlock_outer(&self) {}

    /// The words that sections of the platform hold, if any: a fork takes them last.
    ///
    /// # Safety
    /// `visit` takes words as a lock's are taken, and frees none but those that the calling thread took for a fork.
    unsafe fn for_each_word(&self, _visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst>
    where
        Self: Sized,
    {
        Ok(())
    }

    /// Called before and after each use of a lock: a simulator lets other threads run here. Nothing, everywhere else.
    #[inline(always)]
    fn at_lock(&self, _step: LockStep<'_>) {}
}
