//! Where all threads of the storm stand still.
//!
//! The engine can be checked as a whole only while nobody uses it. So the coordinator [calls](Meeting::call) a
//! meeting; every thread looks [at the flag](Meeting::called) between two visits, with nothing in its hands, and
//! [attends](Meeting::attend): it stays until the coordinator [dismisses](Meeting::dismiss) it.
//!
//! A thread that does not come is a finding too: somewhere below it, somebody waits for ever. The
//! coordinator therefore waits for a limited time, and tells how many came.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// The place.
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
    /// A meeting place of `members` threads, the coordinator not counted.
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

    /// Whether a meeting is called: come, with nothing in your hands.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether the storm is over: go.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Says that the storm is over, to whoever attends and whoever is elsewhere.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Stays until dismissed.
    pub fn wait(&self) {
        let mut state = self.lock();
        if !self.is_requested() {
            return; // dismissed between the look at the flag and here: that was no meeting of ours
        }
        let released = state.released;
        state.present += 1;
        self.changed.notify_all();
        while state.released == released {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Calls a meeting and waits until all are there; otherwise says how many came in that time.
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

    /// Lets everybody go on.
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
    fn nobody_works_while_the_meeting_lasts() {
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
    fn a_missing_member_is_told() {
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
