//! A plan: how the decisions of one run are made.

use super::schedule::{MAX_THREADS, Schedule, Set, default};

/// Pseudo-random numbers, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// How the decisions of a run are made.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// By the turns of a schedule, and otherwise by default. A turn to a thread that cannot continue is skipped.
    Turns {
        schedule: Schedule,
        /// The number of turns that are over.
        over: usize,
    },
    /// By random priorities; at a few random decisions that of the running thread drops below all others (Burckhardt
    /// and others, PCT).
    Priorities {
        /// The thread with the highest priority runs.
        priorities: [i32; MAX_THREADS],
        /// Decisions at which the priority drops.
        drops: Vec<usize>,
    },
}

impl Default for Plan {
    fn default() -> Self {
        Self::turns(Schedule::default())
    }
}

impl Plan {
    pub(super) fn turns(schedule: Schedule) -> Self {
        Self::Turns { schedule, over: 0 }
    }

    /// A random plan for a run of about `length` decisions, with `depth` ordering constraints.
    pub(super) fn priorities(random: &mut Random, length: usize, depth: usize) -> Self {
        let mut priorities: [i32; MAX_THREADS] = std::array::from_fn(|thread| thread as i32 + 1);
        for thread in (1..MAX_THREADS).rev() {
            priorities.swap(thread, random.below(thread + 1));
        }
        let drops = (1..depth).map(|_| random.below(length.max(1))).collect();
        Self::Priorities { priorities, drops }
    }

    /// The thread that runs at decision `at`.
    pub(super) fn choose(&mut self, able: Set, current: u8, at: usize) -> u8 {
        match self {
            Self::Turns { schedule, over } => match schedule.turns.get(*over) {
                Some(turn) if turn.at as usize == at => {
                    *over += 1;
                    if able >> turn.to & 1 != 0 { turn.to } else { default(able, current) }
                }
                _ => default(able, current),
            },
            Self::Priorities { priorities, drops } => {
                if drops.contains(&at) && usize::from(current) < MAX_THREADS {
                    priorities[usize::from(current)] = -(at as i32) - 1;
                }
                let able = (0..MAX_THREADS as u8).filter(|thread| able >> thread & 1 != 0);
                able.max_by_key(|thread| priorities[usize::from(*thread)]).unwrap_or(current)
            }
        }
    }
}
