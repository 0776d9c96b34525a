//! The defences that stand between the caches and the CPUs: both, except in a simulator.
//!
//! The engine has two, each sufficient alone (see [`cpu`](super)). A claim that no experiment can contradict is worth
//! little. So a platform may return one of four corners from [`Defences::protocol`], and a program that explores
//! schedules on it sees which corner falls:
//!
//! | | off the list before the drain, online CPUs only | listed until drained, every CPU that holds something |
//! |---|---|---|
//! | **no gate** | [`Y2004`](Protocol::Y2004): dies of race 1 and race 2 | [`LISTED`](Protocol::LISTED) |
//! | **gate** | [`GATE`](Protocol::GATE): the fix of 2004 | [`BOTH`](Protocol::BOTH): what runs everywhere else |
//!
//! Every other platform keeps the default, [`BOTH`](Protocol::BOTH), a constant: the compiler leaves nothing of the
//! other corners in it. Their steps are in `engine/protocol_2004.rs`. If the order of 2004 relies on a slot that does
//! not exist, which was the oops, it reports [`Step::NoSlot`](crate::platform::Step) and goes on as if that were a
//! miss.

/// The defences that are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// Create, destroy and shrink hold the gate's read side while transitions hold its write side.
    pub gate: bool,
    /// A cache is listed before it gets slots and until it is drained; while it is dying it gets none; all CPUs that
    /// hold something of it are drained.
    pub keep_listed: bool,
}

impl Protocol {
    /// What ships.
    pub const BOTH: Self = Self { gate: true, keep_listed: true };
    /// The order of 2004 under the gate: the historic fix.
    pub const GATE: Self = Self { gate: true, keep_listed: false };
    /// The order of today without a gate; transitions are serialised among themselves only.
    pub const LISTED: Self = Self { gate: false, keep_listed: true };
    /// The order of 2004 without a gate: what the kernel did before the fix.
    pub const Y2004: Self = Self { gate: false, keep_listed: false };
    /// The four corners.
    pub const ALL: [Self; 4] = [Self::Y2004, Self::GATE, Self::LISTED, Self::BOTH];
}

/// Which defences a platform has: both, except in a simulator.
///
/// # Safety
/// The protocol is the same at each call. Where it is not [`BOTH`](Protocol::BOTH), the platform runs one thread at a
/// time and touches no object, as a simulator does: the engine without its defences hands memory out that is in use.
pub unsafe trait Defences {
    /// The defences that are on: a simulator tries what happens to the engine without them. Both, everywhere else. It
    /// must not change.
    #[inline(always)]
    fn protocol(&self) -> Protocol {
        Protocol::BOTH
    }
}
