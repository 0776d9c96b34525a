//! Listeners: an embedder's code that is told of every transition, and may refuse some.
//!
//! Every listener hears every event, whatever the others answer (I28); a refused preparation is canceled for those that
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

/// A listener's answer to `UpPrepare` or `DownPrepare`: the transition shall not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// Whoever wants to know about transitions.
pub trait Listener: Sync {
    /// Called for each step; a refusal counts for [`Event::UpPrepare`] and [`Event::DownPrepare`] only.
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused>;
}

/// Most listeners of one engine.
pub(super) const MAX_LISTENERS: usize = 16;

/// The listeners, in the order of their subscription.
#[derive(Clone, Copy, Default)]
pub(crate) struct Listeners {
    list: [Option<&'static dyn Listener>; MAX_LISTENERS],
    len: usize,
}

impl Listeners {
    pub(super) fn add(&mut self, listener: &'static dyn Listener) -> bool {
        match self.list.get_mut(self.len) {
            Some(place) => *place = Some(listener),
            None => return false,
        }
        self.len += 1;
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn iter(&self) -> impl Iterator<Item = &'static dyn Listener> + '_ {
        self.list[..self.len].iter().flatten().copied()
    }

    /// Tells all; no answer counts.
    pub(super) fn tell(&self, event: Event, cpu: usize) {
        for listener in self.iter() {
            // A refusal of an event that has happened means nothing.
            let _ = listener.event(event, cpu);
        }
    }

    /// Asks all, also behind a refusal (I28); if there was one, those that had granted hear `undo`, the last one first.
    #[cold]
    pub(super) fn ask(&self, event: Event, undo: Event, cpu: usize) -> Result<(), Refused> {
        let mut granted = [None; MAX_LISTENERS];
        for (place, listener) in granted.iter_mut().zip(self.iter()) {
            *place = listener.event(event, cpu).is_ok().then_some(listener);
        }
        if granted[..self.len].iter().all(Option::is_some) {
            return Ok(());
        }
        for listener in granted.into_iter().rev().flatten() {
            // It is told, not asked.
            let _ = listener.event(undo, cpu);
        }
        Err(Refused)
    }
}
