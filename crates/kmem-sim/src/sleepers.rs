//! Who sleeps on which word. They really sleep until somebody wakes them: a wake that is forgotten is a test that hangs.

use std::sync::Mutex;
use std::thread::{self, Thread};

use kmem_core::sync::{AtomicUsize, Ordering};

use crate::tsan_lock::taken;

/// The threads that sleep, each with the address of its word.
#[derive(Default)]
pub(crate) struct Sleepers(Mutex<Vec<(usize, Thread)>>);

impl Sleepers {
    /// Sleeps while the word is as expected, until somebody wakes the thread. Whether it is so is looked at under the
    /// lock that a wake takes, so none falls in between.
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

    /// Wakes so many of those that sleep on the word, at most.
    pub(crate) fn wake(&self, word: &AtomicUsize, most: usize) {
        let address = std::ptr::from_ref(word) as usize;
        let mut asleep = taken(&self.0);
        for _ in 0..most {
            let Some(first) = asleep.iter().position(|(at, _)| *at == address) else { break };
            asleep.remove(first).1.unpark();
        }
    }
}
