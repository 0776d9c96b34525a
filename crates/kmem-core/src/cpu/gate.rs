//! The gate: a readers-writer lock between CPU transitions (writers) and threads that need a stable set of CPUs
//! (readers).
//!
//! A writer takes the turnstile and waits until the readers inside have left; a reader passes the turnstile on its way
//! in. So a writer waits for at most the readers that it finds, however many more arrive (I40), and readers are let in
//! between writers. The gate is not recursive. A thread that comes back while it holds the write side gets
//! [`InsideCallback`] (I30, I33): that is a hotplug callback that creates a cache. A reader that comes back is caught
//! by the lock ranks in debug builds.
//!
//! # Places
//! A reader inside holds a *place*, a [`Word`] that says which thread it is. A count would be enough for writers, but
//! not for a fork in a signal handler: there the thread has to know whether it is inside itself, further up in its
//! stack. One store into a place brings the thread in and says so, one swap takes it out, and there is no moment
//! between. There are more places than threads are ever inside at once; a thread that finds none waits in the turnstile
//! for one to become free, and no reader needs the turnstile to leave. A writer waits for one place after the other: no
//! thread comes in meanwhile.
//!
//! # Fork
//! A fork takes the turnstile and waits for the readers, as a writer does, except for those that cannot go on before
//! the forking thread does ([`sync::fork`](crate::sync)). In the child these readers do not exist. Nor does a
//! transition that was under way: its CPU is in the state that the set of online CPUs says.

use core::fmt;
use core::marker::PhantomData;

use super::{CpuSet, Cpus, Defences, Mistake};
use crate::sync::{
    self, AtomicUsize, Forker, Guard, LockStep, MODEL, Mutex, OfThread, Ordering, OtherFirst, Park, Rank, Word,
};

/// The calling thread is inside a hotplug callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InsideCallback;

/// Places for readers. Few in a model, where each costs a step of every writer.
const PLACES: usize = if MODEL { 2 } else { 64 };

/// The gate.
#[derive(Debug)]
pub struct Gate {
    turnstile: Mutex<()>,
    readers: [Word; PLACES],
    /// The token of the thread that holds the write side, or 0.
    writer: AtomicUsize,
}

/// The read side is held: no CPU changes its state. The thread that took it releases it (I30).
#[must_use]
pub struct ReadGuard<'a, P: Park + Defences> {
    /// `None`: a simulator has taken the gate away.
    place: Option<&'a Word>,
    park: &'a P,
    _thread: OfThread,
}

/// The write side is held: a CPU may change its state, and no named cache is being created or destroyed.
#[must_use]
pub struct WriteGuard<'a, P: Park> {
    gate: &'a Gate,
    _turnstile: Guard<'a, (), P>,
}

/// Proof that the set of online CPUs cannot change while this lives (I35).
///
/// Having it tells you: the gate is held, so no CPU is between two states, and a CPU that is not online has only
/// disabled slots. Only a guard of the gate gives it out. (In a simulator that has taken the gate away it proves
/// nothing: see [`Defences::has_gate`].)
pub struct OnlineCpus<'g> {
    cpus: &'g Cpus,
}

impl<P: Park + Defences> fmt::Debug for ReadGuard<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<P: Park> fmt::Debug for WriteGuard<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl fmt::Debug for OnlineCpus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnlineCpus").field(&self.set()).finish()
    }
}

impl Gate {
    /// A gate that no thread holds.
    pub fn new() -> Self {
        Self {
            turnstile: Mutex::new(Rank::Gate, ()),
            readers: core::array::from_fn(|_| Word::new()),
            writer: AtomicUsize::new(0),
        }
    }

    /// Takes the read side, waiting for a transition to end.
    pub fn read<'a, P: Park + Defences>(&'a self, park: &'a P) -> Result<ReadGuard<'a, P>, InsideCallback> {
        self.refuse_callback(park)?;
        ReadGuard::inside(park, || Ok(self.enter(park)))
    }

    fn enter<P: Park>(&self, park: &P) -> &Word {
        let turnstile = self.turnstile.lock(park);
        let place = self.free_place().unwrap_or_else(|| {
            let [first, ..] = &self.readers;
            sync::sleep(park, first, || first.mark());
            first
        });
        Self::take_place(place, park);
        drop(turnstile);
        sync::hold(park, Rank::Gate, false);
        place
    }

    /// A free place, if there is one. The caller holds the turnstile, so no other thread takes places.
    fn free_place(&self) -> Option<&Word> {
        // Acquire: after what the reader did that had the place before, because a writer will see only the thread that
        // has it last.
        self.readers.iter().find(|place| place.0.load(Ordering::Acquire) == 0)
    }

    /// From here on the thread is inside. Published with the turnstile.
    fn take_place<P: Park>(place: &Word, park: &P) {
        place.0.store(park.thread_token(), Ordering::Relaxed);
    }

    /// Takes the read side if no transition is running or waiting; never inside a hotplug callback.
    pub fn try_read<'a, P: Park + Defences>(&'a self, park: &'a P) -> Option<ReadGuard<'a, P>> {
        self.refuse_callback(park).ok()?;
        ReadGuard::inside(park, || self.try_enter(park).ok_or(())).ok()
    }

    fn try_enter<P: Park>(&self, park: &P) -> Option<&Word> {
        let turnstile = self.turnstile.try_lock(park)?;
        let place = self.free_place()?;
        Self::take_place(place, park);
        drop(turnstile);
        sync::hold(park, Rank::Gate, false);
        Some(place)
    }

    /// Takes the write side, waiting for the readers inside to leave.
    pub fn write<'a, P: Park>(&'a self, park: &'a P) -> Result<WriteGuard<'a, P>, InsideCallback> {
        self.refuse_callback(park)?;
        let turnstile = self.turnstile.lock(park);
        self.wait_for_readers(park);
        self.writer.store(park.thread_token(), Ordering::Relaxed);
        Ok(WriteGuard { gate: self, _turnstile: turnstile })
    }

    /// Takes the write side if no thread is inside.
    pub fn try_write<'a, P: Park>(&'a self, park: &'a P) -> Option<WriteGuard<'a, P>> {
        let turnstile = self.turnstile.try_lock(park)?;
        if self.readers.iter().any(|place| place.0.load(Ordering::Acquire) != 0) {
            return None;
        }
        self.writer.store(park.thread_token(), Ordering::Relaxed);
        Some(WriteGuard { gate: self, _turnstile: turnstile })
    }

    /// Waits until no reader is inside. The caller holds the turnstile: no thread comes in meanwhile, and no other
    /// thread waits.
    fn wait_for_readers<P: Park>(&self, park: &P) {
        for place in &self.readers {
            if place.0.load(Ordering::Acquire) != 0 {
                sync::sleep(park, place, || place.mark());
            }
        }
    }

    /// Whether the calling thread holds the write side.
    pub fn is_writer<P: Park>(&self, park: &P) -> bool {
        self.writer.load(Ordering::Relaxed) == park.thread_token()
    }

    fn refuse_callback<P: Park>(&self, park: &P) -> Result<(), InsideCallback> {
        if self.is_writer(park) { Err(InsideCallback) } else { Ok(()) }
    }

    /// Takes the turnstile and waits for the readers, for fork.
    pub(crate) fn lock_for_fork<P: Park>(&self, forker: &Forker<'_, P>) -> Result<(), OtherFirst> {
        forker.take(self.turnstile.word())?;
        self.readers.iter().try_for_each(|place| forker.wait_for(place))
    }

    /// Releases it.
    pub(crate) fn unlock_after_fork<P: Park>(&self, forker: &Forker<'_, P>) {
        forker.give_back(self.turnstile.word());
    }

    /// In the child: removes the threads that do not exist there, and returns whether one of them was in a transition.
    pub(crate) fn inherit<P: Park>(&self, forker: &Forker<'_, P>) -> bool {
        self.readers.iter().for_each(|place| _ = forker.inherit(place));
        let gone = forker.inherit(self.turnstile.word());
        if gone {
            self.writer.store(0, Ordering::Relaxed);
        }
        gone
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Park + Defences> Drop for ReadGuard<'_, P> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        sync::unhold(self.park, Rank::Gate);
        if place.release() && self.park.mistake() != Some(Mistake::WakesNobody) {
            self.park.wake_all(&place.0);
        }
        self.park.at_lock(LockStep::Unlocked { rank: Rank::Gate });
    }
}

impl<P: Park> Drop for WriteGuard<'_, P> {
    fn drop(&mut self) {
        self.gate.writer.store(0, Ordering::Relaxed);
    }
}

impl<'a, P: Park + Defences> ReadGuard<'a, P> {
    /// The guard of a thread that comes in by `enter`, which a simulator without a gate does not call.
    #[inline(always)]
    fn inside<E>(park: &'a P, enter: impl FnOnce() -> Result<&'a Word, E>) -> Result<Self, E> {
        let place = park.has_gate().then(enter).transpose()?;
        Ok(Self { place, park, _thread: PhantomData })
    }

    /// The guard of a thread that is not inside, and behaves as if it were: a mistake of the past.
    pub(crate) fn missing(park: &'a P) -> Self {
        debug_assert!(park.mistake().is_some());
        Self { place: None, park, _thread: PhantomData }
    }

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
