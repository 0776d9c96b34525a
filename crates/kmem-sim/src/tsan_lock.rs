//! A lock taken so that the thread sanitizer sees it.
//!
//! `std` is precompiled, so the sanitizer does not see the part of its lock that waits: what a thread did before it
//! released the lock would look unordered to a thread that waited for it. `try_lock` is inlined into the caller, and so
//! it is instrumented.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// Takes the lock, trying until it is free. It is only held briefly, by code that does not panic.
pub fn taken<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    loop {
        match lock.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Poisoned(_)) => panic!("a thread panicked while it held a lock"),
        }
    }
}
