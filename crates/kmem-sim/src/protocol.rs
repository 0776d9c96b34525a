//! Which defences stand between the caches and the CPUs in an experiment.
//!
//! The engine has two, each sufficient alone (see [`cpu`](kmem_core::cpu)). A claim that no experiment can contradict
//! is worth little. So an experiment chooses one of four corners, and the explorer sees which corner falls:
//!
//! | | off the list before the drain, online CPUs only | listed until drained, every CPU that holds something |
//! |---|---|---|
//! | **no gate** | [`Y2004`](Protocol::Y2004): dies of race 1 and race 2 | [`LISTED`](Protocol::LISTED) |
//! | **gate** | [`GATE`](Protocol::GATE): the fix of 2004 | [`BOTH`](Protocol::BOTH): what runs everywhere else |
//!
//! In any of them the engine can be made to repeat one [`Mistake`] of others: an exhibit of the
//! [museum](crate::museum).

use kmem_core::cpu::Mistake;

/// The defences that are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// Create, destroy and shrink hold the gate's read side while transitions hold its write side.
    pub gate: bool,
    /// A cache is listed before it gets slots and until it is drained; while it is dying it gets none; all CPUs that
    /// hold something of it are drained.
    pub keep_listed: bool,
    /// What is done as it was done elsewhere.
    pub mistake: Option<Mistake>,
}

impl Protocol {
    /// What ships.
    pub const BOTH: Self = Self { gate: true, keep_listed: true, mistake: None };
    /// The order of 2004 under the gate: the historic fix.
    pub const GATE: Self = Self { gate: true, keep_listed: false, mistake: None };
    /// The order of today without a gate; transitions are serialised among themselves only.
    pub const LISTED: Self = Self { gate: false, keep_listed: true, mistake: None };
    /// The order of 2004 without a gate: what the kernel did before the fix.
    pub const Y2004: Self = Self { gate: false, keep_listed: false, mistake: None };

    /// The same with a mistake.
    pub const fn with(self, mistake: Mistake) -> Self {
        Self { mistake: Some(mistake), ..self }
    }
}
