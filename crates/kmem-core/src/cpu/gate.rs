//! The gate: a readers-writer lock between CPU transitions (writers) and whoever needs a stable set of CPUs (readers).
//!
//! A writer takes the turnstile and waits until the readers inside have left; a reader passes the turnstile on its way
//! in. So a writer waits for at most the readers it finds, however many more arrive (I40), and readers are let in
//! between writers. The gate is not recursive: who comes back while his own thread holds the write side gets
//! [`InsideCallback`] (I30, I33), for that is what a hotplug callback does that creates a cache; a reader that comes
//! back is caught by the lock ranks in debug builds.

use core::marker::PhantomData;

use super::{CpuSet, Cpus};
use crate::platform::{Park, Step};
use crate::sync::{self, AtomicU32, AtomicUsize, Guard, Mutex, OfThread, Ordering, Rank};

/// The calling thread is inside a hotplug callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InsideCallback;

/// Set in the number of readers while a writer waits for it to become 0: only then is somebody to be woken.
const AWAITED: u32 = 1 << 31;

/// The gate.
pub struct Gate {
    turnstile: Mutex<()>,
    /// How many readers are inside, and [`AWAITED`].
    readers: AtomicU32,
    /// The token of the thread that holds the write side, or 0.
    writer: AtomicUsize,
}

/// The read side is held: no CPU changes its state. It is given back by the thread that took it (I30).
#[must_use]
pub struct ReadGuard<'a, P: Park> {
    gate: &'a Gate,
    park: &'a P,
    _thread: OfThread,
}

/// The write side is held: a CPU may change its state, and no named cache is being created, and none destroyed.
#[must_use]
pub struct WriteGuard<'a, P: Park> {
    gate: &'a Gate,
    _turnstile: Guard<'a, (), P>,
}

/// Proof that the set of online CPUs cannot change while this lives (I35).
///
/// Having it tells you: somebody holds the gate, so no CPU is between two states, and a CPU that is not online has
/// nothing but disabled slots. Only a guard of the gate gives it out. (In a simulator that has taken the gate away, a
/// [`Protocol`](super::Protocol) without it, it proves nothing.)
pub struct OnlineCpus<'g> {
    cpus: &'g Cpus,
}

impl Gate {
    /// A gate nobody holds.
    pub fn new() -> Self {
        Self { turnstile: Mutex::new(Rank::Gate, ()), readers: AtomicU32::new(0), writer: AtomicUsize::new(0) }
    }

    /// Takes the read side, waiting for a transition to end.
    pub fn read<'a, P: Park>(&'a self, park: &'a P) -> Result<ReadGuard<'a, P>, InsideCallback> {
        self.refuse_callback(park)?;
        if park.protocol().gate {
            self.enter(park);
        }
        Ok(ReadGuard { gate: self, park, _thread: PhantomData })
    }

    fn enter<P: Park>(&self, park: &P) {
        let turnstile = self.turnstile.lock(park);
        self.readers.fetch_add(1, Ordering::Acquire);
        drop(turnstile);
        sync::hold(park, Rank::Gate, false);
    }

    fn leave<P: Park>(&self, park: &P) {
        sync::unhold(park, Rank::Gate);
        if self.readers.fetch_sub(1, Ordering::Release) == AWAITED + 1 {
            park.wake_all(&self.readers);
        }
        park.step(Step::Unlocked { rank: Rank::Gate });
    }

    /// Takes the read side if no transition is running or waiting; never inside a hotplug callback.
    pub fn try_read<'a, P: Park>(&'a self, park: &'a P) -> Option<ReadGuard<'a, P>> {
        self.refuse_callback(park).ok()?;
        if park.protocol().gate {
            let turnstile = self.turnstile.try_lock(park)?;
            self.readers.fetch_add(1, Ordering::Acquire);
            drop(turnstile);
            sync::hold(park, Rank::Gate, false);
        }
        Some(ReadGuard { gate: self, park, _thread: PhantomData })
    }

    /// Takes the write side, waiting for the readers inside to leave.
    pub fn write<'a, P: Park>(&'a self, park: &'a P) -> Result<WriteGuard<'a, P>, InsideCallback> {
        self.refuse_callback(park)?;
        let turnstile = self.turnstile.lock(park);
        self.wait_for_readers(park);
        self.writer.store(park.thread_token(), Ordering::Relaxed);
        Ok(WriteGuard { gate: self, _turnstile: turnstile })
    }

    /// Takes the write side if nobody is inside.
    pub fn try_write<'a, P: Park>(&'a self, park: &'a P) -> Option<WriteGuard<'a, P>> {
        let turnstile = self.turnstile.try_lock(park)?;
        if self.readers.load(Ordering::Acquire) != 0 {
            return None;
        }
        self.writer.store(park.thread_token(), Ordering::Relaxed);
        Some(WriteGuard { gate: self, _turnstile: turnstile })
    }

    /// Waits until no reader is inside. The caller holds the turnstile: none comes in meanwhile, and nobody else waits.
    fn wait_for_readers<P: Park>(&self, park: &P) {
        if self.readers.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut readers = self.readers.fetch_or(AWAITED, Ordering::Acquire) | AWAITED;
        while readers != AWAITED {
            park.wait(&self.readers, readers);
            readers = self.readers.load(Ordering::Acquire);
        }
        self.readers.store(0, Ordering::Relaxed);
    }

    /// Whether the calling thread holds the write side.
    pub fn is_writer<P: Park>(&self, park: &P) -> bool {
        self.writer.load(Ordering::Relaxed) == park.thread_token()
    }

    fn refuse_callback<P: Park>(&self, park: &P) -> Result<(), InsideCallback> {
        if self.is_writer(park) { Err(InsideCallback) } else { Ok(()) }
    }

    /// Takes the turnstile and waits for the readers, for fork.
    pub(crate) fn lock_for_fork<P: Park>(&self, park: &P) {
        self.turnstile.lock_raw(park);
        self.wait_for_readers(park);
    }

    /// # Safety
    /// [`lock_for_fork`](Self::lock_for_fork) took it.
    pub(crate) unsafe fn unlock_after_fork<P: Park>(&self, park: &P) {
        // SAFETY: passed on.
        unsafe { self.turnstile.unlock_raw(park) }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Park> Drop for ReadGuard<'_, P> {
    fn drop(&mut self) {
        if self.park.protocol().gate {
            self.gate.leave(self.park);
        }
    }
}

impl<P: Park> Drop for WriteGuard<'_, P> {
    fn drop(&mut self) {
        self.gate.writer.store(0, Ordering::Relaxed);
    }
}

impl<P: Park> ReadGuard<'_, P> {
    /// The proof.
    pub fn online<'g>(&'g self, cpus: &'g Cpus) -> OnlineCpus<'g> {
        OnlineCpus { cpus }
    }
}

impl<P: Park> WriteGuard<'_, P> {
    /// The proof.
    pub fn online<'g>(&'g self, cpus: &'g Cpus) -> OnlineCpus<'g> {
        OnlineCpus { cpus }
    }
}

impl OnlineCpus<'_> {
    /// The CPUs that are online.
    pub fn set(&self) -> CpuSet {
        self.cpus.online()
    }

    /// How many these are.
    pub fn count(&self) -> usize {
        self.cpus.online_now().count()
    }
}
