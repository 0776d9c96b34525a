//! What happened in one run, in order: the engine's named steps, and the calls of the scenario.

use std::fmt;

use kmem_core::cache::CacheDesc;
use kmem_core::cpu::CpuSet;
use kmem_core::platform::{CacheStep, CpuStep, Place, SlotStep, Step};

/// The number of bytes of a name that are kept.
const NAME: usize = 23;

/// A cache's name, stored inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; NAME],
}

impl Name {
    /// The name, or as much of it as is kept.
    pub fn new(name: &str) -> Self {
        let len = name.len().min(NAME);
        let mut bytes = [0; NAME];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self { len: len as u8, bytes }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", String::from_utf8_lossy(&self.bytes[..usize::from(self.len)]))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of CPUs, with a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpus(pub u64);

impl Cpus {
    fn of(set: &CpuSet) -> Self {
        Self(set.iter().filter(|cpu| *cpu < 64).fold(0, |bits, cpu| bits | 1 << cpu))
    }

    /// Whether the CPU is among them.
    pub fn contains(self, cpu: usize) -> bool {
        self.0 >> cpu & 1 != 0
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |cpu| self.contains(*cpu))
    }
}

/// A step of a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum CacheEvent {
    Described,
    SlotsMade(Cpus),
    Listed,
    Dying,
    Unlisted,
    Draining(Cpus),
    Drained,
    Checked(usize),
    Revived,
    Freed,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum What {
    Cache {
        cache: Name,
        did: CacheEvent,
    },
    Cpu {
        cpu: usize,
        did: CpuStep,
    },
    Slot {
        cache: Name,
        cpu: usize,
        did: SlotStep,
    },
    NoSlot {
        cache: Name,
        cpu: usize,
        place: Place,
    },
    /// The step that kills: what the mistake of the protocol is.
    Mistaken,
    /// A section has read, and is still to commit.
    InSection,
    /// The thread cannot continue, and no other can.
    Stuck {
        /// It sleeps; otherwise it waits for a lock.
        asleep: bool,
    },
    /// The thread's `n`-th operation begins.
    Begins(usize),
    /// The thread's `n`-th operation is over.
    Ends(usize),
}

/// What happened, and in which thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The thread's number in its scenario.
    pub thread: usize,
    /// What happened.
    pub what: What,
}

impl What {
    /// The event for a step of the engine.
    pub(super) fn of(step: Step<'_>) -> Self {
        let name = |cache: &CacheDesc| Name::new(cache.name());
        match step {
            Step::Cache { cache, did } => Self::Cache { cache: name(cache), did: CacheEvent::of(did) },
            Step::Cpu { cpu, did } => Self::Cpu { cpu, did },
            Step::Slot { cache, cpu, did } => Self::Slot { cache: name(cache), cpu, did },
            Step::NoSlot { cache, cpu, place } => Self::NoSlot { cache: name(cache), cpu, place },
            Step::Mistaken => Self::Mistaken,
        }
    }

    /// Whether other threads may run after it. Not while a lock is held that all of them need.
    pub(super) fn interrupts(self) -> bool {
        match self {
            Self::Cache { did, .. } => !matches!(did, CacheEvent::Described | CacheEvent::Listed | CacheEvent::Dying),
            Self::Cpu { .. } => true,
            Self::Slot { .. }
            | Self::NoSlot { .. }
            | Self::Mistaken
            | Self::InSection
            | Self::Stuck { .. }
            | Self::Begins(_)
            | Self::Ends(_) => false,
        }
    }
}

impl CacheEvent {
    fn of(step: CacheStep<'_>) -> Self {
        match step {
            CacheStep::Described { .. } => Self::Described,
            CacheStep::SlotsMade { cpus } => Self::SlotsMade(Cpus::of(cpus)),
            CacheStep::Listed => Self::Listed,
            CacheStep::Dying => Self::Dying,
            CacheStep::Unlisted => Self::Unlisted,
            CacheStep::Draining { cpus } => Self::Draining(Cpus::of(cpus)),
            CacheStep::Drained => Self::Drained,
            CacheStep::Checked { live } => Self::Checked(live),
            CacheStep::Revived => Self::Revived,
            CacheStep::Freed { .. } => Self::Freed,
        }
    }
}

/// Which of the two races of 2004 made a slot missing: 2 if the CPU was prepared after the cache was unlisted, so that
/// its preparation did not see the cache; otherwise 1, because then the slot was missed when the cache was created.
pub(super) fn race(events: &[Event], cache: Name, cpu: usize) -> u8 {
    let is = |did| move |event: &Event| event.what == What::Cache { cache, did };
    let born = events.iter().rposition(is(CacheEvent::Described)).unwrap_or(0);
    let unlisted = events[born..].iter().rposition(is(CacheEvent::Unlisted));
    let prepared = events[born..].iter().rposition(|event| event.what == What::Cpu { cpu, did: CpuStep::Prepared });
    match (unlisted, prepared) {
        (Some(unlisted), Some(prepared)) if unlisted < prepared => 2,
        _ => 1,
    }
}
