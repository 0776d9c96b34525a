//! What a home sees of the engine while it runs.
//!
//! A simulator sees what each thread just did, step by step. And whoever traces a program sees where memory goes, on
//! slow paths only: [`Observer::event`].
//!
//! The engine calls [`Observer::step`] after each step of the protocol between caches and CPUs, and
//! [`Park::at_lock`](crate::sync::Park::at_lock) around each lock. Everywhere but in a simulator these are empty
//! functions, inlined, and their argument only borrows what is there anyway. It calls [`Observer::event`] where objects
//! move in batches, and where slabs and large objects come and go.

use super::CacheDesc;
use crate::host::CpuSet;

/// What a simulator, or who traces a program, does with the engine; by itself nothing.
pub trait Observer {
    /// Called between the steps of an operation: other threads may run here.
    #[inline(always)]
    fn step(&self, _step: Step<'_>) {}

    /// Called on slow paths, when the event is over. Must not allocate from the engine, nor wait.
    #[inline(always)]
    fn event(&self, _event: Event<'_>) {}
}

/// Where memory went.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Objects were taken from slabs.
    Refill {
        /// The cache.
        cache: &'a CacheDesc,
        /// How many.
        objects: usize,
    },
    /// Objects were returned to the depot and to slabs.
    Flush {
        /// The cache.
        cache: &'a CacheDesc,
        /// How many.
        objects: usize,
    },
    /// A cache got a new slab.
    SlabMade {
        /// The cache.
        cache: &'a CacheDesc,
        /// Bytes.
        bytes: usize,
    },
    /// Slabs went to the page heap.
    SlabsFreed {
        /// Bytes of all of them.
        bytes: usize,
    },
    /// A large object was handed out.
    LargeAllocated {
        /// Where it is.
        address: usize,
        /// Bytes.
        bytes: usize,
    },
    /// A large object was freed.
    LargeFreed {
        /// Where it was.
        address: usize,
        /// Bytes.
        bytes: usize,
    },
}

/// A step of the calling thread.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The thread has done something with a cache.
    Cache {
        /// The cache.
        cache: &'a CacheDesc,
        /// What.
        did: CacheStep<'a>,
    },
    /// The thread has done something with a CPU.
    Cpu {
        /// The CPU.
        cpu: usize,
        /// What.
        did: CpuStep,
    },
    /// The thread has done something with a slot, whose CPU's control it holds.
    Slot {
        /// The slot's cache.
        cache: &'a CacheDesc,
        /// The slot's CPU.
        cpu: usize,
        /// What.
        did: SlotStep,
    },
    /// The order of 2004 counts on a slot that does not exist: here the kernel of 2004 read a NULL pointer and died.
    NoSlot {
        /// The slot's cache.
        cache: &'a CacheDesc,
        /// The slot's CPU.
        cpu: usize,
        /// Who looked for it.
        place: Place,
    },
    /// The thread has just done what the platform's [`Mistake`](crate::cpu::Mistake) is.
    Mistaken,
}

/// A step in the life of a cache.
#[derive(Clone, Copy, Debug)]
pub enum CacheStep<'a> {
    /// There is a descriptor of so many bytes.
    Described {
        /// Bytes.
        bytes: usize,
    },
    /// Its slots on these CPUs were made.
    SlotsMade {
        /// The CPUs that were online.
        cpus: &'a CpuSet,
    },
    /// It is on the list of all caches.
    Listed,
    /// Its destruction has begun: no slot of it can be enabled.
    Dying,
    /// It is off the list.
    Unlisted,
    /// The CPUs whose slots are to be drained are chosen.
    Draining {
        /// They.
        cpus: &'a CpuSet,
    },
    /// Its slots and its depot are drained.
    Drained,
    /// Objects in use were counted.
    Checked {
        /// How many there are.
        live: usize,
    },
    /// It was busy, and lives again.
    Revived,
    /// The descriptor, of so many bytes, is about to go back.
    Freed {
        /// Bytes.
        bytes: usize,
    },
}

/// A step of a transition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuStep {
    /// CPU_UP_PREPARE has begun.
    Preparing,
    /// CPU_UP_PREPARE is done.
    Prepared,
    /// It is online.
    Online,
    /// The preparation was undone.
    Canceled,
    /// CPU_DOWN_PREPARE was granted.
    Draining,
    /// It is no longer online; CPU_DEAD is to come.
    Offline,
    /// CPU_DEAD is done.
    Dead,
}

/// A step of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotStep {
    /// It has a magazine.
    Enabled,
    /// Its objects were taken out; it keeps its magazine.
    Emptied,
    /// Its objects and its magazine were taken away.
    Disabled,
}

/// Who counts on a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The processing of a dead CPU: CPU_DEAD.
    Dead,
    /// The drain of an online CPU: do_drain, called by an interrupt.
    Drain,
    /// alloc or free on an online CPU.
    Miss,
    /// The undoing of a preparation: CPU_UP_CANCELED.
    Canceled,
    /// The way of freed objects to the node of their CPU, of which the cache has no part.
    Node,
}
