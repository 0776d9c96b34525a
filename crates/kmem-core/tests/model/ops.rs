//! What a case is: a machine, and a list of operations.
//!
//! Every choice is a number that means what there is to choose from when the operation runs, so a list stays one when
//! operations are left out of it.

use kmem_core::Population;
use kmem_sim::fake::Machine;

/// Chooses one of what there is, round and round.
pub type Pick = u16;

/// What a cache shall be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub size: usize,
    pub align: usize,
    /// Whether its objects stay constructed between uses.
    pub constructed: bool,
}

/// What is done by somebody else in the middle of the next section, between its reads and its commit.
#[derive(Clone, Copy, Debug)]
pub enum Meddling {
    Shrink {
        cache: Pick,
    },
    Trim,
    /// The CPU leaves.
    Left {
        cpu: Pick,
    },
    /// Another thread on the same CPU takes objects of the cache and gives them back.
    Use {
        cache: Pick,
        count: u16,
    },
}

/// What memory fails for, call by call, until nothing is left to fail.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    Create(Shape),
    Up { cpu: Pick },
    Alloc { cache: Pick, count: u16, seed: u8 },
    General { size: usize, align_shift: u8, seed: u8 },
    Realloc { which: Pick, size: usize, seed: u8 },
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Create(Shape),
    Destroy {
        cache: Pick,
        first_free_all: bool,
    },
    Alloc {
        cache: Pick,
        count: u16,
        seed: u8,
    },
    Free {
        cache: Pick,
        count: u16,
        from: Pick,
    },
    General {
        size: usize,
        align_shift: u8,
        seed: u8,
    },
    GeneralFree {
        which: Pick,
    },
    Realloc {
        which: Pick,
        size: usize,
        seed: u8,
    },
    Shrink {
        cache: Pick,
    },
    Trim,
    /// The thread moves to another CPU, now and then to one that does not exist.
    RunOn {
        cpu: Pick,
    },
    /// The thread believes that it is on this CPU (I4); `None`: it knows.
    Believe {
        cpu: Option<Pick>,
    },
    Up {
        cpu: Pick,
        refused: bool,
    },
    /// Until it is brought up by name, if `hold`.
    Down {
        cpu: Pick,
        hold: bool,
        refused: bool,
    },
    /// The n-th call for memory from now fails, or all from there on.
    Fail {
        n: u8,
        and_all_later: bool,
    },
    FailNever,
    Interrupt(Meddling),
    EachFailure(Victim),
}

/// A whole case.
#[derive(Clone, Debug)]
pub struct Case {
    pub machine: Machine,
    pub population: Population,
    /// Whether there are listeners: then CPUs come up by name only, and transitions can be refused.
    pub listened: bool,
    pub ops: Vec<Op>,
}
