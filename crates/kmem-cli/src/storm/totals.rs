//! The counters of a storm.
//!
//! A worker counts in a [`Tally`] of its own and adds it to the [`Totals`] after every visit of a module, so the
//! counters cost a few atomic additions for hundreds of objects. Faults that are not numbers ('a transition failed for
//! an unexpected reason') are kept as sentences, up to a limit.

#![forbid(unsafe_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Complaints that are kept; further ones would say nothing new.
const MOST_COMPLAINTS: usize = 12;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What one thread has counted since it last added it to the totals; also a reading of [`Totals`].
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)+
        }

        /// The counts of all threads.
        #[derive(Default)]
        pub struct Totals {
            $($name: AtomicU64,)+
            complaints: Mutex<Vec<String>>,
        }

        impl Totals {
            /// Adds a tally and clears it.
            pub fn add(&self, tally: &mut Tally) {
                $(if tally.$name != 0 {
                    self.$name.fetch_add(tally.$name, Relaxed);
                })+
                *tally = Tally::default();
            }

            /// The counts so far.
            pub fn read(&self) -> Tally {
                Tally { $($name: self.$name.load(Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Caches that were created.
    caches_created,
    /// Caches that were destroyed.
    caches_destroyed,
    /// Destroys that were correctly refused, with the exact number of held objects.
    destroy_busy,
    /// Caches that could not be created.
    create_failed,
    /// CPUs that came up.
    cpu_up,
    /// CPUs that went down.
    cpu_down,
    /// CPUs whose prepare failed and was rolled back.
    cpu_up_canceled,
    /// CPUs that stayed up because a listener refused.
    cpu_down_failed,
    /// Objects allocated.
    allocs,
    /// Objects freed.
    frees,
    /// Objects freed by another thread than the one that allocated them.
    frees_by_other_thread,
    /// Objects freed on another CPU than the one where they were allocated.
    frees_on_other_cpu,
    /// Allocations that failed for lack of memory.
    alloc_failed,
    /// Objects that the engine counts as held but that are not held.
    lost,
    /// Objects with two holders.
    doubled,
    /// Objects in slots of CPUs that are not online.
    stranded,
    /// Objects whose pattern changed while they were held.
    corrupt,
    /// Quiescent points at which everything was checked.
    checks,
}

impl Totals {
    /// Records a fault that is not a number.
    pub fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(|e| e.into_inner());
        if complaints.len() < MOST_COMPLAINTS {
            complaints.push(complaint);
        }
    }

    /// Whether there is any complaint.
    pub fn has_complaints(&self) -> bool {
        !self.complaints.lock().unwrap_or_else(|e| e.into_inner()).is_empty()
    }

    /// The faults that are not numbers.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl Tally {
    /// Transitions of CPUs that were completed, canceled or revoked.
    pub fn transitions(&self) -> u64 {
        self.cpu_up + self.cpu_down + self.cpu_up_canceled + self.cpu_down_failed
    }
}
