//! The states of a CPU, and what each event makes of each.
//!
//! ```text
//! Offline --prepare--> Prepared --online--> Online --down--> Draining --drained--> Dead --reclaimed--> Offline
//!    ^---------cancel-----'                    ^--down_failed----'
//! ```
//! Cancel and reclaim are total (I23): they are valid after none, part or all of a preparation, and change nothing if
//! there is nothing to undo.

/// The state of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuState {
    /// No slot is enabled and none can be.
    Offline,
    /// Its area exists, unpublished.
    Prepared,
    /// Slots may be enabled.
    Online,
    /// Its sections miss, its magazines are being emptied.
    Draining,
    /// Its slots are empty and disabled (I8).
    Dead,
}

/// What happens to a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuEvent {
    /// CPU_UP_PREPARE.
    Prepare,
    /// CPU_UP_CANCELED.
    Cancel,
    /// CPU_ONLINE.
    Online,
    /// CPU_DOWN_PREPARE: listeners are asked after it.
    Down,
    /// CPU_DOWN_FAILED.
    DownFailed,
    /// Its magazines are empty.
    Drained,
    /// CPU_DEAD is done: its memory is freed.
    Reclaimed,
}

impl CpuState {
    /// The state after `event`; `None` if the event cannot happen.
    pub const fn next(self, event: CpuEvent) -> Option<Self> {
        use CpuEvent as E;
        use CpuState::*;
        match (self, event) {
            (Offline, E::Prepare) => Some(Prepared),
            (Offline, E::Cancel | E::Reclaimed) => Some(Offline),
            (Offline, E::Online | E::Down | E::DownFailed | E::Drained) => None,
            (Prepared, E::Prepare) => Some(Prepared),
            (Prepared, E::Cancel) => Some(Offline),
            (Prepared, E::Online) => Some(Online),
            (Prepared, E::Down | E::DownFailed | E::Drained | E::Reclaimed) => None,
            (Online, E::Down) => Some(Draining),
            (Online, E::Prepare | E::Cancel | E::Online | E::DownFailed | E::Drained | E::Reclaimed) => None,
            (Draining, E::DownFailed) => Some(Online),
            (Draining, E::Drained) => Some(Dead),
            (Draining, E::Prepare | E::Cancel | E::Online | E::Down | E::Reclaimed) => None,
            (Dead, E::Reclaimed) => Some(Offline),
            (Dead, E::Prepare | E::Cancel | E::Online | E::Down | E::DownFailed | E::Drained) => None,
        }
    }
}
