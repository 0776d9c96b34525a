//! The one lock of the engine: a [`Word`] that says which thread holds it, and sleeps through the platform.
//!
//! A contender spins briefly, then marks the word as contended and parks until it changes. The lock is held for at most
//! a batch of work, except when [`Rank::Cpu`] waits for a fence. It carries its [`Rank`]; debug builds assert the order
//! at every acquire.
//!
//! A thread that took the lock for a fork may lock it again: such guards are *nested*, and leave it held.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::types::{Guarded, SPINS};
use super::{LockStep, OfThread, Park, Rank, Word, waiters};

/// Data that one thread at a time may touch.
pub struct Mutex<T> {
    word: Word,
    rank: Rank,
    data: Guarded<T>,
}

// SAFETY: the word gives the data to one thread at a time, so sharing the lock sends the data at most.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: moving the lock moves the data.
unsafe impl<T: Send> Send for Mutex<T> {}

/// The lock is held; dropping this releases it. It stays on its thread.
#[must_use]
pub struct Guard<'a, T, P: Park> {
    lock: &'a Mutex<T>,
    park: &'a P,
    _thread: OfThread,
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("rank", &self.rank).field("word", &self.word).finish_non_exhaustive()
    }
}

impl<T: fmt::Debug, P: Park> fmt::Debug for Guard<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T> Mutex<T> {
    /// A free lock of `rank`.
    pub fn new(rank: Rank, data: T) -> Self {
        Self { word: Word::new(), rank, data: Guarded::new(data) }
    }

    /// Takes the lock, sleeping until it is free.
    pub fn lock<'a, P: Park>(&'a self, park: &'a P) -> Guard<'a, T, P> {
        park.at_lock(LockStep::Lock { rank: self.rank, word: &self.word.0 });
        self.note(park, false);
        self.take(park);
        Guard { lock: self, park, _thread: PhantomData }
    }

    /// Takes the lock although another of its rank is held: the caller takes them in ascending order of index.
    pub fn lock_next<'a, P: Park>(&'a self, park: &'a P) -> Guard<'a, T, P> {
        park.at_lock(LockStep::Lock { rank: self.rank, word: &self.word.0 });
        self.note(park, true);
        self.take(park);
        Guard { lock: self, park, _thread: PhantomData }
    }

    /// Takes the lock if it is free.
    pub fn try_lock<'a, P: Park>(&'a self, park: &'a P) -> Option<Guard<'a, T, P>> {
        park.at_lock(LockStep::TryLock { rank: self.rank, word: &self.word.0 });
        // Noted first: an assertion that fires must not leave the lock held.
        self.note(park, false);
        if !self.word.try_take(park.thread_token()) {
            super::rank::unhold(park, self.rank);
            return None;
        }
        Some(Guard { lock: self, park, _thread: PhantomData })
    }

    #[inline]
    fn take<P: Park>(&self, park: &P) {
        let me = park.thread_token();
        if !self.word.take_free(me) {
            self.take_contended(park, me);
        }
    }

    #[cold]
    fn take_contended<P: Park>(&self, park: &P, me: usize) {
        if self.word.is_mine_for_fork(me) {
            return;
        }
        let mut spins = SPINS;
        while spins > 0 {
            spins -= 1;
            if self.word.value() == 0 && self.word.take_free(me) {
                return;
            }
            core::hint::spin_loop();
        }
        waiters::sleep(park, &self.word, || self.word.take_or_mark(me));
    }

    /// The word: for fork, which takes all of them in order.
    pub fn word(&self) -> &Word {
        &self.word
    }

    /// The guard of a lock that [`Guard::leave_locked`] left held.
    ///
    /// # Safety
    /// The caller holds the lock through a kept guard, which this one replaces.
    pub unsafe fn adopt<'a, P: Park>(&'a self, park: &'a P) -> Guard<'a, T, P> {
        Guard { lock: self, park, _thread: PhantomData }
    }

    #[inline]
    fn note<P: Park>(&self, park: &P, same: bool) {
        super::rank::hold(park, self.rank, same);
    }
}

impl<T, P: Park> Guard<'_, T, P> {
    /// Leaves the lock held; [`Mutex::adopt`] takes it up again.
    pub fn leave_locked(self) {
        core::mem::forget(self);
    }
}

impl<T, P: Park> Deref for Guard<'_, T, P> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this thread holds the lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T, P: Park> DerefMut for Guard<'_, T, P> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this thread holds the lock, and it is borrowed uniquely.
        unsafe { &mut *self.lock.data.get_mut() }
    }
}

impl<T, P: Park> Drop for Guard<'_, T, P> {
    fn drop(&mut self) {
        super::rank::unhold(self.park, self.lock.rank);
        // The lock may be gone as soon as it is free: the rank is read before.
        let rank = self.lock.rank;
        if self.lock.word.release() {
            // Only its address is used.
            self.park.wake_one(&self.lock.word.0);
        }
        self.park.at_lock(LockStep::Unlocked { rank });
    }
}
