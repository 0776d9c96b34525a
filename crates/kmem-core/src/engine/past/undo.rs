//! Rollbacks that are wrong. They run when something else has failed already, so hardly any run is one of them.
//!
//! ```text
//! ships                                         here
//! offline, then emptied                         emptied, then offline: a create enables a slot in between
//! emptied                                       left as it is
//! the error of what failed                      the result of undoing it
//! draining -> online, if a listener refuses     draining for ever
//! all are asked; those that granted hear        asked up to the first refusal; all hear of the cancel
//! looked at again under the gate                looked at once, before it
//! ```

use super::Past;
use crate::cpu::{CpuEvent, Event, Mistake, OnlineCpus, Refused};
use crate::engine::hotplug::Cpu;
use crate::error::HotplugError;
use crate::platform::{CpuStep, Platform};

/// The mistakes of CPU_UP_CANCELED.
pub(in crate::engine) const CANCELS: [Mistake; 2] = [Mistake::EmptiesBeforeOffline, Mistake::LeavesSlots];

impl<P: Platform> Past<'_, P> {
    /// CPU_UP_CANCELED.
    pub(in crate::engine) fn cancel(&self, online: &OnlineCpus<'_>, cpu: Cpu<'_>) {
        let engine = self.engine;
        if self.mistake == Mistake::EmptiesBeforeOffline {
            engine.drain_cpu(online, cpu, CpuEvent::Cancel);
        }
        self.slip();
        engine.apply(cpu, CpuEvent::Cancel);
        engine.tell_step(cpu, CpuStep::Canceled);
    }

    /// The result of a rollback that went well.
    pub(in crate::engine) fn hide_error(&self) -> Result<(), HotplugError> {
        self.slip();
        Ok(())
    }

    /// Asks listeners up to the first that refuses, and tells all of them the `undo`.
    pub(in crate::engine) fn ask_up_to_a_refusal(&self, event: Event, undo: Event, cpu: usize) -> Result<(), Refused> {
        let all = || (0..).map_while(|index| self.engine.listener(index));
        let asked = all().try_for_each(|listener| listener.event(event, cpu));
        if asked.is_err() {
            self.slip();
            for listener in all() {
                // It is told, not asked.
                let _ = listener.event(undo, cpu);
            }
        }
        asked
    }

    /// Whether a CPU may come up: it might when the calling thread looked.
    pub(in crate::engine) fn adopt(&self, cpu: Cpu<'_>) -> bool {
        self.slip();
        self.engine.state(cpu) != crate::cpu::CpuState::Online
    }

    /// Brings a CPU up that might come when the calling thread looked.
    pub(in crate::engine) fn come(&self, cpu: Cpu<'_>) -> Result<(), HotplugError> {
        let engine = self.engine;
        if cpu.control.lock.lock(&engine.platform).held_down {
            return Err(HotplugError::HeldDown { cpu: cpu.number });
        }
        let gate = engine.gate.write(&engine.platform).map_err(|_| HotplugError::InsideCallback)?;
        self.slip();
        engine.up(gate, cpu)
    }
}
