//! How a fork takes the words of all locks, and what it does with each.
//!
//! A fork takes every lock, in the order of ranks, so that the child finds everything between two operations. It never
//! hangs, whichever thread forks and whenever:
//!
//! | the lock is | the fork | behind it, the parent | and the child |
//! |---|---|---|---|
//! | free, or held by a thread that gets on | takes it, when it is free | gives it back | gives it back |
//! | held by the thread itself, which was interrupted by a signal | leaves it | goes on with it | goes on with it |
//! | held by a thread that waits for a lock of the former kind | leaves it | | frees it: the thread is gone |
//! | held by a thread that was interrupted and forks too | lets that one fork first | | |
//!
//! What a lock of the third kind (`Waiters::chain`) guards is in order although it is held: a thread that waits for a
//! lock is at a place where everything that it holds can be left for ever. At worst the child loses a batch that the
//! thread was moving: objects that count as in use.
//!
//! For the fourth kind forks take turns, by a word of their own that is taken first: a thread releases all that it
//! took, and tries again when the other is through. Two threads that were each interrupted in the middle of what the
//! other needs would let each other go first for ever. So after [`COURTESIES`] the lock is left, and stays held in the
//! child. That child may not use what the other thread was in the middle of: by POSIX, a child of a process with
//! threads may call only async-signal-safe functions up to its exec, and no malloc.
//!
//! A fork does not sleep on a word but looks at it again, because the thread that holds it may become one that is
//! stuck. The forking thread leaves a note itself, by which others know that it waits for them.

use super::waiters::{Note, Why};
use super::word::{CONTENDED, FORK, Word, owner};
use super::{Cell, Ordering, Park, types};
use core::fmt;

/// How often a thread lets others fork first.
const COURTESIES: u32 = 100;
/// Looks until a thread that was let go first counts as through, or as not coming.
const LOOKS: u32 = 300;

/// Another thread must fork first: everything that was taken is to be released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OtherFirst;

/// A thread that forks.
pub struct Forker<'a, P: Park> {
    park: &'a P,
    me: usize,
    courtesies: Cell<u32>,
}

impl<P: Park> fmt::Debug for Forker<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forker").field("thread", &self.me).finish_non_exhaustive()
    }
}

impl<'a, P: Park> Forker<'a, P> {
    /// The calling thread.
    pub fn new(park: &'a P) -> Self {
        Self { park, me: park.thread_token(), courtesies: Cell::new(0) }
    }

    /// Takes the word by which forks take turns. A thread that has it sees by the note that this thread waits, and lets
    /// it go first if need be.
    pub(crate) fn begin(&self, forks: &Word) {
        let (mut note, mut tries) = (None, 0);
        while !self.marks(forks) {
            note = note.or_else(|| self.note(forks));
            self.park.rest(tries);
            tries += 1;
        }
    }

    fn note(&self, word: &Word) -> Option<Note<'a, P>> {
        // SAFETY: those who ask drop the note before they return, while they borrow the word.
        unsafe { self.park.waiters()?.note(self.park, word, Why::Fork) }
    }

    /// Takes the word, unless it is not available.
    pub fn take(&self, word: &Word) -> Result<(), OtherFirst> {
        self.wait_until(word, |value| value == 0 && self.marks(word))
    }

    /// Waits until no other thread holds the word, unless that may not happen.
    pub(crate) fn wait_for(&self, word: &Word) -> Result<(), OtherFirst> {
        self.wait_until(word, |value| value == 0)
    }

    fn marks(&self, word: &Word) -> bool {
        word.0.compare_exchange(0, self.me | FORK, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn wait_until(&self, word: &Word, done: impl Fn(usize) -> bool) -> Result<(), OtherFirst> {
        let (mut note, mut spins, mut tries) = (None, types::SPINS, 0);
        loop {
            let value = word.0.load(Ordering::Acquire);
            if owner(value) == self.me || done(value) {
                return Ok(());
            }
            note = note.or_else(|| self.note(word));
            if spins > 0 {
                spins -= 1;
                core::hint::spin_loop();
                continue;
            }
            match self.what_holds(word, owner(value)) {
                Some(Why::Fork) if self.courtesies.get() < COURTESIES => return Err(OtherFirst),
                Some(_) => return Ok(()),
                None => self.park.rest(tries),
            }
            tries += 1;
        }
    }

    /// Why the word will not be released before this thread goes on; `None` if it will.
    fn what_holds(&self, word: &Word, holder: usize) -> Option<Why> {
        let why = self.park.waiters()?.chain(holder, self.me)?;
        // It is still that thread's: once the thread is known to be stuck it stays so.
        (owner(word.value()) == holder).then_some(why)
    }

    /// Lets others fork. The caller has released all that it took.
    pub(crate) fn be_courteous(&self, forks: &Word) {
        self.courtesies.set(self.courtesies.get() + 1);
        (0..LOOKS).take_while(|_| forks.value() == 0).for_each(|tries| self.park.rest(tries));
    }

    /// Whether the thread holds the word, for this fork or further up in its stack.
    pub(crate) fn has(&self, word: &Word) -> bool {
        owner(word.value()) == self.me
    }

    /// Releases the word, if it was taken for this fork.
    pub fn give_back(&self, word: &Word) {
        if word.is_mine_for_fork(self.me) && word.0.swap(0, Ordering::Release) & CONTENDED != 0 {
            self.park.wake_one(&word.0);
        }
    }

    /// In the child: frees a word whose thread does not exist there, and returns whether it did.
    pub fn inherit(&self, word: &Word) -> bool {
        let holder = owner(word.value());
        let gone = ![0, self.me].contains(&holder);
        let in_order = gone && !self.park.waiters().is_some_and(|waiters| waiters.is_in_fork(holder));
        if in_order {
            word.free();
        }
        in_order
    }

    /// In the child, after all words are inherited: no other thread waits.
    pub(crate) fn forget_waiters(&self) {
        if let Some(waiters) = self.park.waiters() {
            waiters.forget_others(self.me);
        }
    }
}
