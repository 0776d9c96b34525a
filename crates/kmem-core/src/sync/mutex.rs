//! The one lock of the engine: a word with three states that sleeps through the platform.
//!
//! States of the word: 0 free, 1 held, 2 held and somebody may sleep. A contender spins briefly, then marks the word 2
//! and parks until it changes. It is held for at most a batch of work, except where [`Rank::Cpu`] waits for a fence.
//! The lock carries its [`Rank`]; debug builds assert the order at every acquire.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::types::{Guarded, SPINS};
use super::{AtomicU32, OfThread, Ordering, Rank};
use crate::platform::{Park, Step};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// Data that one thread at a time may touch.
pub struct Mutex<T> {
    word: AtomicU32,
    rank: Rank,
    data: Guarded<T>,
}

// SAFETY: the word gives the data to one thread at a time, so sharing the lock sends the data at most.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: moving the lock moves the data.
unsafe impl<T: Send> Send for Mutex<T> {}

/// The lock is held; dropping this gives it back. It stays on its thread.
#[must_use]
pub struct Guard<'a, T, P: Park> {
    lock: &'a Mutex<T>,
    park: &'a P,
    _thread: OfThread,
}

impl<T> Mutex<T> {
    /// A free lock of `rank`.
    pub fn new(rank: Rank, data: T) -> Self {
        Self { word: AtomicU32::new(FREE), rank, data: Guarded::new(data) }
    }

    /// Takes the lock, sleeping until it is free.
    pub fn lock<'a, P: Park>(&'a self, park: &'a P) -> Guard<'a, T, P> {
        park.step(Step::Lock { rank: self.rank, word: &self.word });
        self.note(park, false);
        self.lock_raw(park);
        Guard { lock: self, park, _thread: PhantomData }
    }

    /// Takes the lock although another of its rank is held: the caller takes them in ascending order of index.
    pub fn lock_next<'a, P: Park>(&'a self, park: &'a P) -> Guard<'a, T, P> {
        park.step(Step::Lock { rank: self.rank, word: &self.word });
        self.note(park, true);
        self.lock_raw(park);
        Guard { lock: self, park, _thread: PhantomData }
    }

    /// Takes the lock if it is free.
    pub fn try_lock<'a, P: Park>(&'a self, park: &'a P) -> Option<Guard<'a, T, P>> {
        park.step(Step::TryLock { rank: self.rank, word: &self.word });
        // Noted first: an assertion that fires must not leave the lock held.
        self.note(park, false);
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            super::rank::unhold(park, self.rank);
            return None;
        }
        Some(Guard { lock: self, park, _thread: PhantomData })
    }

    /// Takes the lock without a guard and without a rank: for fork, which takes them all in order.
    pub fn lock_raw<P: Park>(&self, park: &P) {
        let taken = self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            self.lock_contended(park);
        }
    }

    #[cold]
    fn lock_contended<P: Park>(&self, park: &P) {
        let mut spins = SPINS;
        while spins > 0 {
            spins -= 1;
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            core::hint::spin_loop();
        }
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            park.wait(&self.word, CONTENDED);
        }
    }

    /// Gives back a lock that [`lock_raw`](Self::lock_raw) took.
    ///
    /// # Safety
    /// The caller holds the lock and no guard of it exists.
    pub unsafe fn unlock_raw<P: Park>(&self, park: &P) {
        if self.word.swap(FREE, Ordering::Release) == CONTENDED {
            park.wake_one(&self.word);
        }
    }

    /// The guard of a lock that [`Guard::keep`] left held.
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
    pub fn keep(self) {
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
        // The lock may be gone as soon as it is free: what is told of it is told from a copy.
        let rank = self.lock.rank;
        // SAFETY: the guard proves that this thread holds the lock, and the guard ends here.
        unsafe { self.lock.unlock_raw(self.park) }
        self.park.step(Step::Unlocked { rank });
    }
}
