//! The lock of a region: a word that says which thread holds it, tried again until it is free.
//!
//! A holder needs some hundred instructions, and a system call now and then. A fork takes the words with those of the
//! engine ([`Park::for_each_word`](kmem_core::platform::Park::for_each_word)), and a thread that forks passes through
//! what it took for that.
//!
//! So does a thread that reports a fault which the processor found while the thread held the word: an object's
//! surroundings that the program made unreadable, say. It only reads from then on, and ends the program.

use core::cell::UnsafeCell;

use kmem_core::sync::{Word, owner};

use super::report;
use crate::os::sys;
use crate::rseq::thread_data;

/// Yields before a thread that waits takes naps, and how long these are, in nanoseconds.
const YIELDS: u32 = 200;
const NAP: u64 = 50_000;

/// What a word guards.
pub(super) struct Locked<T> {
    pub(super) word: Word,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by the thread that holds the word only.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(super) const fn new(value: T) -> Self {
        Self { word: Word(kmem_core::sync::AtomicUsize::new(0)), value: UnsafeCell::new(value) }
    }

    /// Runs `work` on the value, which no other thread sees meanwhile. `work` does not come here again.
    #[inline]
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let me = thread_data::pointer();
        if !self.word.take_free(me) && !self.wait(me) {
            // SAFETY: the word was taken for a fork by this thread, between two operations; or by an operation of this
            // thread that a fault ended, which does not go on.
            return work(unsafe { &mut *self.value.get() });
        }
        // SAFETY: the word is this thread's.
        let result = work(unsafe { &mut *self.value.get() });
        self.word.free();
        result
    }

    /// Takes the word; `false`: it is the thread's already, for a fork or a report.
    #[cold]
    #[inline(never)]
    fn wait(&self, me: usize) -> bool {
        let mut tries = 0;
        while !self.word.take_free(me) {
            if self.word.is_mine_for_fork(me) || (owner(self.word.value()) == me && report::is_mine(me)) {
                return false;
            }
            if tries < YIELDS {
                sys::sched_yield()
            } else {
                sys::sleep(NAP)
            }
            tries += 1;
        }
        true
    }
}
