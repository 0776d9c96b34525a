//! Where all threads of the storm stop, so that the engine can be checked.
//!
//! The engine can be checked as a whole only while no thread uses it. So the coordinator [requests](Barrier::request) a
//! stop; every thread looks [at the flag](Barrier::is_requested) between two visits, when it holds no object, and
//! [waits](Barrier::wait) until the coordinator [releases](Barrier::release) it.
//!
//! A thread that does not arrive is a finding too: it is blocked somewhere below. The coordinator therefore waits for a
//! limited time, and reports how many arrived.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// The barrier of one storm.
pub struct Barrier {
    members: usize,
    requested: AtomicBool,
    over: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    present: usize,
    released: u64,
}

impl Barrier {
    /// A barrier for `members` threads, not counting the coordinator.
    pub fn of(members: usize) -> Self {
        Self {
            members,
            requested: AtomicBool::new(false),
            over: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether threads are to stop here, holding no object.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether the storm is over, so that threads are to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends the storm, for threads that wait here and for those still on their way.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Waits until released.
    pub fn wait(&self) {
        let mut state = self.lock();
        if !self.is_requested() {
            return; // released between the look at the flag and here: the request is over
        }
        let released = state.released;
        state.present += 1;
        self.changed.notify_all();
        while state.released == released {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Requests a stop and waits until all threads have arrived. The error is how many arrived in that time.
    pub fn request(&self, patience: Duration) -> Result<(), usize> {
        let state = self.lock();
        self.requested.store(true, Ordering::Release);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, patience, |state| state.present < self.members)
            .unwrap_or_else(|e| e.into_inner());
        if state.present < self.members {
            return Err(state.present);
        }
        Ok(())
    }

    /// Lets all threads continue.
    pub fn release(&self) {
        let mut state = self.lock();
        self.requested.store(false, Ordering::Release);
        state.present = 0;
        state.released += 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn no_thread_works_until_it_is_released() {
        let barrier = Barrier::of(3);
        let work = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !barrier.is_over() {
                        if barrier.is_requested() {
                            barrier.wait();
                        } else {
                            work.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for round in 0..50 {
                assert_eq!(barrier.request(Duration::from_secs(60)), Ok(()));
                let before = work.load(Ordering::Relaxed);
                std::thread::yield_now();
                assert_eq!(work.load(Ordering::Relaxed), before, "round {round}");
                if round == 49 {
                    barrier.end();
                }
                barrier.release();
            }
        });
    }

    #[test]
    fn a_missing_member_is_reported() {
        let barrier = Barrier::of(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !barrier.is_requested() {
                    std::thread::yield_now();
                }
                barrier.wait();
            });
            assert_eq!(barrier.request(Duration::from_secs(1)), Err(1));
            barrier.release();
        });
    }
}
