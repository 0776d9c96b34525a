//! What a simulator may take away from the engine, to see that it falls without.
//!
//! The engine has two defences between the caches and the CPUs, each sufficient alone (see [`cpu`](super)). A claim
//! that no experiment can contradict is worth little. So a platform is asked for each whether it is on; a program that
//! explores schedules switches one off, or both. Every other platform keeps the bodies below, which are constants: the
//! compiler leaves nothing of the other cases in it.
//!
//! For the same reason a simulator may ask for one [`Mistake`] that others made: what a claim is worth shows where it
//! fails.

use super::Mistake;

/// Which of the engine's defences are on: both, except in a simulator.
///
/// Each question is asked in one place, so that the rest of the engine knows one protocol only. What is left of the
/// others there is a line in each of the functions whose steps came in another order elsewhere (five of them for the
/// order of 2004: create, destroy, shrink, the drain of a CPU, a miss), by which `engine/past` takes over. It cannot be
/// a method of this trait: it consists of steps of the engine, which a platform does not know; and an associated type
/// for it would send the reader of each of these functions through a trait to the order that ships.
///
/// # Safety
/// Each answer is the same at each call. Where one is `false`, the platform runs one thread at a time and touches no
/// object, as a simulator does: the engine without its defences hands out memory that is in use.
pub unsafe trait Defences {
    /// The first defence: create, destroy and shrink hold the gate's read side while transitions hold its write side.
    /// Without it, transitions are serialised among themselves only. It must not change.
    #[inline(always)]
    fn has_gate(&self) -> bool {
        true
    }

    /// The second defence: a cache is listed before it gets slots and until it is drained; while it is dying it gets
    /// none; all CPUs that hold something of it are drained. Without it, caches and CPUs go by the order of 2004, in
    /// `engine/past/order_2004.rs`: if that counts on a slot which does not exist, which was the oops, it reports
    /// [`Step::NoSlot`](crate::platform::Step) and goes on as if that were a miss. It must not change.
    #[inline(always)]
    fn keeps_listed(&self) -> bool {
        true
    }

    /// A mistake that the engine is to make again; none. It must not change.
    #[inline(always)]
    fn mistake(&self) -> Option<Mistake> {
        None
    }
}
