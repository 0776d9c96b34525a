//! Telling the listeners of a transition, and asking them: see [`Listener`].

use crate::cpu::{Event, Listener, Mistake, Refused};
use crate::engine::Engine;
use crate::platform::Platform;

impl<P: Platform> Engine<P> {
    /// One of the listeners, looked up by itself so that it is called under no lock. They do not change during a
    /// transition: adding one needs the gate's write side, and none is ever removed.
    pub(super) fn listener(&self, index: usize) -> Option<&'static dyn Listener> {
        self.listeners.lock(&self.platform).get(index)
    }

    /// Tells all listeners; their results are ignored.
    pub(super) fn tell_listeners(&self, event: Event, cpu: usize) {
        for listener in (0..).map_while(|index| self.listener(index)) {
            // It is too late to refuse an event that has happened.
            let _ = listener.event(event, cpu);
        }
    }

    /// Asks all listeners, even after a refusal (I28). If there was one, those that had granted hear `undo`, the last
    /// one first.
    #[cold]
    pub(super) fn ask_listeners(&self, event: Event, undo: Event, cpu: usize) -> Result<(), Refused> {
        if let Some(past) = self.past(&[Mistake::CancelsUnasked]) {
            return past.ask_up_to_a_refusal(event, undo, cpu);
        }
        let (mut asked, mut granted) = (0, 0u32);
        while let Some(listener) = self.listener(asked) {
            granted |= u32::from(listener.event(event, cpu).is_ok()) << asked;
            asked += 1;
        }
        if granted.count_ones() as usize == asked {
            return Ok(());
        }
        for listener in
            (0..asked).rev().filter(|index| granted & (1 << index) != 0).map_while(|index| self.listener(index))
        {
            // It is told, not asked.
            let _ = listener.event(undo, cpu);
        }
        Err(Refused)
    }
}
