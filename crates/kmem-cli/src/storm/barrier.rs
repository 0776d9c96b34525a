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
pub struct Meeting {
    members: usize,
    called: AtomicBool,
    over: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    present: usize,
    dismissed: u64,
}

impl Meeting {
    /// A meeting place of `members` threads, the coordinator not counted.
    pub fn of(members: usize) -> Self {
        Self {
            members,
            called: AtomicBool::new(false),
            over: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether a meeting is called: come, with nothing in your hands.
    pub fn called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }

    /// Whether the storm is over: go.
    pub fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Says that the storm is over, to whoever attends and whoever is elsewhere.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Stays until dismissed.
    pub fn attend(&self) {
        let mut state = self.lock();
        if !self.called() {
            return; // dismissed between the look at the flag and here: that was no meeting of ours
        }
        let dismissed = state.dismissed;
        state.present += 1;
        self.changed.notify_all();
        while state.dismissed == dismissed {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Calls a meeting and waits until all are there; otherwise says how many came in that time.
    pub fn call(&self, patience: Duration) -> Result<(), usize> {
        let state = self.lock();
        self.called.store(true, Ordering::Release);
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
    pub fn dismiss(&self) {
        let mut state = self.lock();
        self.called.store(false, Ordering::Release);
        state.present = 0;
        state.dismissed += 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn nobody_works_while_the_meeting_lasts() {
        let meeting = Meeting::of(3);
        let work = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !meeting.over() {
                        if meeting.called() {
                            meeting.attend();
                        } else {
                            work.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for round in 0..50 {
                assert_eq!(meeting.call(Duration::from_secs(60)), Ok(()));
                let before = work.load(Ordering::Relaxed);
                std::thread::yield_now();
                assert_eq!(work.load(Ordering::Relaxed), before, "round {round}");
                if round == 49 {
                    meeting.end();
                }
                meeting.dismiss();
            }
        });
    }

    #[test]
    fn a_missing_member_is_told() {
        let meeting = Meeting::of(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !meeting.called() {
                    std::thread::yield_now();
                }
                meeting.attend();
            });
            assert_eq!(meeting.call(Duration::from_secs(1)), Err(1));
            meeting.dismiss();
        });
    }
}
