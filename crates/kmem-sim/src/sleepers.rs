//! Which thread sleeps on which word. Threads really sleep until another thread wakes them, so a forgotten wake makes a
//! test hang.

use std::sync::Mutex;
use std::thread::{self, Thread};

use kmem_core::sync::{AtomicUsize, Ordering};

use crate::tsan_lock::taken;

/// The threads that sleep, each with the address of its word.
#[derive(Default)]
pub(crate) struct Sleepers(Mutex<Vec<(usize, Thread)>>);

impl Sleepers {
    /// Sleeps until another thread wakes this one, if the word is as expected. The word is read under the lock that a
    /// wake takes, so no wake is missed.
    pub(crate) fn wait(&self, word: &AtomicUsize, expected: usize) {
        let address = std::ptr::from_ref(word) as usize;
        let mut asleep = taken(&self.0);
        if word.load(Ordering::Acquire) != expected {
            return;
        }
        asleep.push((address, thread::current()));
        drop(asleep);
        let me = thread::current().id();
        while taken(&self.0).iter().any(|(_, thread)| thread.id() == me) {
            thread::park();
        }
    }

    /// Wakes at most this many of the threads that sleep on the word.
    pub(crate) fn wake(&self, word: &AtomicUsize, most: usize) {
        let address = std::ptr::from_ref(word) as usize;
        let mut asleep = taken(&self.0);
        for _ in 0..most {
            let Some(first) = asleep.iter().position(|(at, _)| *at == address) else { break };
            asleep.remove(first).1.unpark();
        }
    }
}
