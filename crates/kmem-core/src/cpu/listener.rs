//! Listeners: an embedder's code that is told of every transition, and may refuse some.
//!
//! Every listener hears every event, whatever the others return (I28); a refused preparation is canceled for those that
//! had granted it, the last one first. Listeners are called with the gate's write side held and no other lock; they may
//! allocate and free, but not create or destroy caches or start transitions (I33).

/// A step of a transition, as listeners hear it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A CPU is about to come up. May be refused.
    UpPrepare,
    /// The CPU is online.
    Online,
    /// The preparation was undone.
    UpCanceled,
    /// A CPU is about to go down. May be refused.
    DownPrepare,
    /// It stays after all.
    DownFailed,
    /// The CPU is gone and its magazines are empty.
    Dead,
}

/// A listener's refusal of `UpPrepare` or `DownPrepare`: the transition does not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// A listener: it is told of transitions.
pub trait Listener: Sync {
    /// Called for each step. A refusal counts for [`Event::UpPrepare`] and [`Event::DownPrepare`] only.
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused>;
}

/// Most listeners of one engine.
pub(crate) const MAX_LISTENERS: usize = 16;
const _: () = assert!(MAX_LISTENERS <= u32::BITS as usize, "each has a bit of a set of those that granted");

/// The listeners, in the order of their subscription.
#[derive(Default)]
pub(crate) struct Listeners {
    list: [Option<&'static dyn Listener>; MAX_LISTENERS],
    len: usize,
}

impl Listeners {
    pub(crate) fn add(&mut self, listener: &'static dyn Listener) -> bool {
        match self.list.get_mut(self.len) {
            Some(place) => *place = Some(listener),
            None => return false,
        }
        self.len += 1;
        true
    }

    pub(crate) fn get(&self, index: usize) -> Option<&'static dyn Listener> {
        self.list.get(index).copied().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
