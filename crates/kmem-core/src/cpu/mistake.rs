//! The mistakes of other allocators and kernels that a simulator may ask the engine to make again.
//!
//! Each is *one* thing that is done as it was done there; all else is the engine that ships. The exhibits of
//! `kmem race --museum` name the place and the year of each, and the schedule that it dies of. The code is in
//! `engine/past`, and no platform but a simulator has any of it.

/// One thing that is done wrong, as it was done somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Mistake {
    /// In the order of 2004: a tune makes slots for the CPUs that are online, without the gate.
    TunesWithoutGate,
    /// In the order of 2004: a cancel counts on every slot that a whole preparation makes.
    CancelCountsOnSlots,
    /// In the order of 2004: a create whose slots could not be made lists the cache all the same.
    ListsWithoutSlots,
    /// In the order of 2004: only a create makes slots, and no CPU that comes up later gets any.
    PreparesNothing,
    /// A drain walks the CPUs that are online, and not all that hold something.
    DrainsOnline,
    /// A destroy drains the slots before it shuts out new ones.
    DrainsBeforeDying,
    /// A reaper holds the objects of a depot in its hands between the depot and their slabs.
    ReapsByHand,
    /// Upkeep looks at the slots of the CPU that it happens to run on.
    AgesWhereItRuns,
    /// A cancel empties the CPU before it takes it offline.
    EmptiesBeforeOffline,
    /// A cancel takes the CPU offline, and leaves the slots that were made.
    LeavesSlots,
    /// A preparation that failed is undone, and the result is that of undoing.
    HidesError,
    /// A down that was refused is not undone.
    ForgetsDownFailed,
    /// Listeners are asked up to the first refusal, and all of them hear of the cancel.
    CancelsUnasked,
    /// A thread that runs on a CPU that is down looks whether it may bring it up, and does not look again.
    AdoptsAtOneLook,
    /// The same of a follower of the CPUs that a process may use.
    FollowsAtOneLook,
    /// The slots of a CPU that goes are emptied without a fence.
    BuriesWithoutFence,
    /// A shrink empties the slots of running CPUs without a fence.
    ShrinksWithoutFence,
    /// A tune exchanges the magazines of running CPUs without a fence.
    TunesWithoutFence,
    /// A destroy frees the descriptor while readers have it.
    FreesUnderReaders,
    /// A destroy waits for readers while it holds the registry.
    WaitsUnderRegistry,
    /// A destroy waits for readers while it holds the gate.
    WaitsUnderGate,
    /// A tune takes the life of the cache, and then the gate.
    TakesGateLate,
    /// The last reader that leaves the gate wakes no writer.
    WakesNobody,
    /// What a free returns goes to the node that the platform names, whether it exists or not.
    TrustsTopology,
}
