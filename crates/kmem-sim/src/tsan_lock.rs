//! A lock taken so that the thread sanitizer sees it.
//!
//! `std` comes compiled, and the part of its lock that waits is not seen by the sanitizer: what a thread did before it gave
//! the lock back would look unordered to the one that had waited for it. The part that tries is compiled with whoever calls
//! it.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// Takes the lock, trying until it is free. It is held for a moment, by nobody who panics.
pub fn taken<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    loop {
        match lock.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Poisoned(_)) => panic!("somebody panicked under a lock"),
        }
    }
}
