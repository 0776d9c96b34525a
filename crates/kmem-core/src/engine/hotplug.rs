//! The transitions: up (prepare, online, or canceled) and down (drained, dead, or down failed).
//!
//! One transition runs at a time, under the gate's write side. Each step is valid after none, part or all of the one
//! before it, and undoing allocates nothing (I22 to I25).

use super::past::CANCELS;
use super::reclaim::Destination;
use crate::cpu::{
    CpuControl, CpuEvent, CpuSet, CpuState, Event, Listener, MAX_LISTENERS, Mistake, OnlineCpus, Refused, Stopped,
    WriteGuard,
};
use crate::engine::{Engine, Population};
use crate::error::{HotplugError, SubscribeError};
use crate::percpu::Area;
use crate::platform::{CpuStep, Platform, Step};
use crate::slab::Reclaim;

/// A possible CPU: its number was checked when this was made (I5).
#[derive(Clone, Copy)]
pub(super) struct Cpu<'a> {
    pub(super) number: usize,
    pub(super) control: &'a CpuControl,
}

/// What brings a CPU back that goes down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comeback {
    /// Only a call that names it: [`Engine::cpu_up`].
    ByName,
    /// Also the first thread that runs there again.
    ByItself,
}

impl<P: Platform> Engine<P> {
    /// Brings a CPU up: CPU_UP_PREPARE and CPU_ONLINE, or CPU_UP_CANCELED if there is no memory or a listener refuses.
    ///
    /// Takes the gate's write side: waits for creates, destroys and other transitions.
    pub fn cpu_up(&self, cpu: usize) -> Result<(), HotplugError> {
        let cpu = self.possible_cpu(cpu)?;
        let gate = self.gate.write(&self.platform).map_err(|_| HotplugError::InsideCallback)?;
        self.up(gate, cpu)
            .or_else(|error| self.past(&[Mistake::HidesError]).map_or(Err(error), |past| past.hide_error()))
    }

    /// Takes a CPU down: its objects go to the depot, its magazines are freed, and its area is unmapped, or kept for a
    /// period if the engine [decays](Self::decay). It stays down until [`cpu_up`](Self::cpu_up), even if threads run
    /// there: these are served by the depot.
    ///
    /// Takes the gate's write side. Costs a fence, and O(caches that the CPU used) after a walk over all caches.
    /// Listeners are called. Slabs that became empty are reclaimed when nothing is held any longer, so destructors may
    /// run.
    pub fn cpu_down(&self, cpu: usize) -> Result<(), HotplugError> {
        self.down(cpu, Comeback::ByName)
    }

    /// Takes a CPU down that the process has lost: as [`cpu_down`](Self::cpu_down), but the first thread that runs
    /// there again brings it up.
    pub fn cpu_left(&self, cpu: usize) -> Result<(), HotplugError> {
        self.down(cpu, Comeback::ByItself)
    }

    /// The same for a thread that must not run the program's code. Empty slabs of caches with a destructor stay until
    /// another thread misses there, shrinks, trims or destroys.
    ///
    /// # Errors
    /// As for `cpu_left`; and [`HotplugError::HasListeners`], because listeners would have to be called.
    pub fn cpu_left_quietly(&self, cpu: usize) -> Result<(), HotplugError> {
        let cpu = self.possible_cpu(cpu)?;
        let gate = self.gate.write(&self.platform).map_err(|_| HotplugError::InsideCallback)?;
        self.nobody_listens(cpu)?;
        self.down_under(&gate, cpu, Comeback::ByItself)?;
        drop(gate);
        self.reclaim_empty(|cache| !cache.has_destructor());
        Ok(())
    }

    /// The same for a thread that must not wait either (inside an allocation): returns `false` and changes nothing
    /// while the gate is taken, or if there are listeners. All empty slabs stay.
    pub fn try_cpu_left(&self, cpu: usize) -> bool {
        let Ok(cpu) = self.possible_cpu(cpu) else { return false };
        if self.gate.is_writer(&self.platform) || !self.platform.can_fence() {
            return false;
        }
        let Some(gate) = self.gate.try_write(&self.platform) else { return false };
        self.nobody_listens(cpu).is_ok() && self.down_under(&gate, cpu, Comeback::ByItself).is_ok()
    }

    /// Brings a CPU up on which threads may run again, unless it is held down. A thread that runs there does the same
    /// by itself; this also works if there are listeners.
    pub fn cpu_came(&self, cpu: usize) -> Result<(), HotplugError> {
        let cpu = self.possible_cpu(cpu)?;
        if let Some(past) = self.past(&[Mistake::FollowsAtOneLook]) {
            return past.come(cpu);
        }
        let gate = self.gate.write(&self.platform).map_err(|_| HotplugError::InsideCallback)?;
        self.come(gate, cpu)
    }

    /// The same for a thread that must not run the program's code.
    ///
    /// # Errors
    /// As for `cpu_came`; and [`HotplugError::HasListeners`], because listeners would have to be called.
    pub fn cpu_came_quietly(&self, cpu: usize) -> Result<(), HotplugError> {
        let cpu = self.possible_cpu(cpu)?;
        let gate = self.gate.write(&self.platform).map_err(|_| HotplugError::InsideCallback)?;
        self.nobody_listens(cpu)?;
        self.come(gate, cpu)
    }

    fn come(&self, gate: WriteGuard<'_, P>, cpu: Cpu<'_>) -> Result<(), HotplugError> {
        if cpu.control.lock.lock(&self.platform).held_down {
            return Err(HotplugError::HeldDown { cpu: cpu.number });
        }
        self.up(gate, cpu)
    }

    /// Adds a listener. It cannot be removed.
    pub fn subscribe(&self, listener: &'static dyn Listener) -> Result<(), SubscribeError> {
        let _gate = self.gate.write(&self.platform).map_err(|_| SubscribeError::InsideCallback)?;
        if self.listeners.lock(&self.platform).add(listener) {
            Ok(())
        } else {
            Err(SubscribeError::TooMany { max: MAX_LISTENERS })
        }
    }

    /// Whether there are listeners.
    pub fn has_listeners(&self) -> bool {
        !self.listeners.lock(&self.platform).is_empty()
    }

    /// Brings a CPU up on which the calling thread runs, if it may come up by itself and that needs no waiting.
    ///
    /// This runs inside any allocation, in whatever state its caller is, so it calls no code of the program: if there
    /// are listeners, CPUs come up only by name.
    pub(super) fn try_adopt(&self, cpu: usize) -> bool {
        let Ok(cpu) = self.possible_cpu(cpu) else { return false };
        let may_come = match cpu.control.lock.try_lock(&self.platform) {
            Some(control) => control.state() == CpuState::Offline && !control.held_down,
            None => false,
        };
        if !may_come || self.gate.is_writer(&self.platform) || !self.platform.is_on(cpu.number) {
            return false;
        }
        let Some(gate) = self.gate.try_write(&self.platform) else { return false };
        // Looked at again: the CPU may have been taken up and down, by name, before this thread took the gate.
        let may_come = if let Some(past) = self.past(&[Mistake::AdoptsAtOneLook]) {
            past.adopt(cpu)
        } else {
            let control = cpu.control.lock.lock(&self.platform);
            control.state() == CpuState::Offline && !control.held_down
        };
        may_come && !self.has_listeners() && self.up(gate, cpu).is_ok()
    }

    fn possible_cpu(&self, number: usize) -> Result<Cpu<'_>, HotplugError> {
        match self.cpus.get(number) {
            Some(control) => Ok(Cpu { number, control }),
            None => Err(HotplugError::OutOfRange { cpu: number, possible: self.cpus.possible() }),
        }
    }

    /// Changes the state of a CPU.
    pub(super) fn apply(&self, cpu: Cpu<'_>, event: CpuEvent) {
        cpu.control.lock.lock(&self.platform).apply(event);
    }

    pub(super) fn state(&self, cpu: Cpu<'_>) -> CpuState {
        cpu.control.lock.lock(&self.platform).state()
    }

    /// Tells a simulator what was done with a CPU.
    #[inline(always)]
    pub(super) fn tell_step(&self, cpu: Cpu<'_>, did: CpuStep) {
        self.platform.step(Step::Cpu { cpu: cpu.number, did });
    }

    /// Called under the gate, which keeps listeners from subscribing meanwhile.
    fn nobody_listens(&self, cpu: Cpu<'_>) -> Result<(), HotplugError> {
        if self.has_listeners() { Err(HotplugError::HasListeners { cpu: cpu.number }) } else { Ok(()) }
    }

    #[cold]
    pub(super) fn up(&self, gate: WriteGuard<'_, P>, cpu: Cpu<'_>) -> Result<(), HotplugError> {
        if self.state(cpu) == CpuState::Online {
            return Err(HotplugError::AlreadyOnline { cpu: cpu.number });
        }
        let cancel = Undo(|| self.cancel(&gate.online(&self.cpus), cpu));
        self.prepare(cpu)?;
        self.ask_listeners(Event::UpPrepare, Event::UpCanceled, cpu.number)
            .map_err(|_| HotplugError::Refused { cpu: cpu.number })?;
        cancel.forget();
        {
            let mut control = cpu.control.lock.lock(&self.platform);
            control.apply(CpuEvent::Online);
            control.held_down = false;
            self.cpus.set_online(cpu.number, true);
            if let Some(area) = control.area {
                // SAFETY: the control is held, and the area is the CPU's.
                unsafe { self.table.publish(cpu.number, area) };
            }
        }
        self.tell_step(cpu, CpuStep::Online);
        self.tell_listeners(Event::Online, cpu.number);
        Ok(())
    }

    /// Gives the CPU an area, and with [`Population::Eager`] a magazine of every live cache. It may fail with part of
    /// that done: [`cancel`](Self::cancel) undoes any part.
    fn prepare(&self, cpu: Cpu<'_>) -> Result<(), HotplugError> {
        let no_memory = HotplugError::NoMemory { cpu: cpu.number };
        {
            let mut control = cpu.control.lock.lock(&self.platform);
            control.apply(CpuEvent::Prepare);
            self.cpus.kept.remove(cpu.number);
            if control.area.is_none() {
                control.area = Some(Area::map(&self.platform, self.table.width()).ok_or(no_memory)?);
            }
        }
        self.tell_step(cpu, CpuStep::Preparing);
        let mut enabled = true;
        if let Some(past) = self.past(&[Mistake::PreparesNothing]) {
            past.slip();
        } else if self.config.population == Population::Eager {
            self.registry.for_each(&self.platform, |cache| enabled = enabled && self.enable_waiting(cache, cpu.number));
        }
        self.tell_step(cpu, CpuStep::Prepared);
        if enabled { Ok(()) } else { Err(no_memory) }
    }

    /// CPU_UP_CANCELED: total and idempotent (I23).
    ///
    /// The CPU is offline before it is emptied: while it counts as prepared, a create that took its set of CPUs earlier
    /// may enable a slot behind the walk, where only the gate keeps it out (I8).
    fn cancel(&self, online: &OnlineCpus<'_>, cpu: Cpu<'_>) {
        if let Some(past) = self.past(&CANCELS) {
            return past.cancel(online, cpu);
        }
        self.apply(cpu, CpuEvent::Cancel);
        self.drain_cpu(online, cpu, CpuEvent::Cancel);
        self.unmap_areas_without_decay();
        self.tell_step(cpu, CpuStep::Canceled);
    }

    #[cold]
    fn down(&self, cpu: usize, comeback: Comeback) -> Result<(), HotplugError> {
        let cpu = self.possible_cpu(cpu)?;
        let gate = self.gate.write(&self.platform).map_err(|_| HotplugError::InsideCallback)?;
        self.down_under(&gate, cpu, comeback)?;
        drop(gate);
        self.reclaim_empty(|_| true);
        Ok(())
    }

    /// The transition itself. Slabs that became empty stay with their nodes.
    #[cold]
    fn down_under(&self, gate: &WriteGuard<'_, P>, cpu: Cpu<'_>, comeback: Comeback) -> Result<(), HotplugError> {
        let online = gate.online(&self.cpus);
        if self.state(cpu) != CpuState::Online {
            if comeback == Comeback::ByName {
                cpu.control.lock.lock(&self.platform).held_down = true;
            }
            return Err(HotplugError::AlreadyOffline { cpu: cpu.number });
        }
        if online.count() == 1 {
            return Err(HotplugError::LastCpu { cpu: cpu.number });
        }
        self.apply(cpu, CpuEvent::Down);
        let fail = Undo(|| self.apply(cpu, CpuEvent::DownFailed));
        if let Err(Refused) = self.ask_listeners(Event::DownPrepare, Event::DownFailed, cpu.number) {
            if let Some(past) = self.past(&[Mistake::ForgetsDownFailed]) {
                past.slip();
                fail.forget();
            }
            return Err(HotplugError::Refused { cpu: cpu.number });
        }
        fail.forget();
        self.tell_step(cpu, CpuStep::Draining);
        cpu.control.lock.lock(&self.platform).held_down = comeback == Comeback::ByName;
        self.cpus.set_online(cpu.number, false);
        self.tell_step(cpu, CpuStep::Offline);
        self.drain_cpu(&online, cpu, CpuEvent::Drained);
        self.apply(cpu, CpuEvent::Drained);
        self.apply(cpu, CpuEvent::Reclaimed);
        self.unmap_areas_without_decay();
        self.tell_step(cpu, CpuStep::Dead);
        self.tell_listeners(Event::Dead, cpu.number);
        Ok(())
    }

    /// Drains every slot of a CPU in whose state no slot can be enabled (an online CPU is left alone), and puts its
    /// area away. Allocates only what it can do without (I24).
    ///
    /// The control is released between two caches, so that it is never held for longer than one magazine's work; a
    /// destroy that runs concurrently (if there were no gate) takes its turn there.
    ///
    /// Slabs that become empty stay where they are until the gate is free: see [`reclaim_empty`](Self::reclaim_empty).
    #[cold]
    #[inline(never)]
    pub(super) fn drain_cpu(&self, online: &OnlineCpus<'_>, cpu: Cpu<'_>, why: CpuEvent) {
        if let Some(order) = self.order_of_2004() {
            return order.drain_cpu(online, cpu.number, why);
        }
        if self.state(cpu) == CpuState::Online {
            return;
        }
        let mut reclaim = Reclaim::closed();
        // Withdraws the area and fences. Dropping it does not publish the area again, because the CPU is not online.
        if let Some(past) = self.past(&[Mistake::BuriesWithoutFence]) {
            past.withdraw(cpu);
        } else {
            drop(Stopped::new(online, &self.cpus, &self.table, &self.platform, &CpuSet::of(cpu.number)));
        }
        self.registry.for_each(&self.platform, |cache| {
            let control = cpu.control.lock.lock(&self.platform);
            if let Some(area) = control.area {
                // SAFETY: the control is held; the CPU is fenced off, and its area is not published before the next
                // transition.
                unsafe { self.drain_slot(cache, cpu.number, area, Destination::Depot, &mut reclaim) };
            }
        });
        // SAFETY: the gate is held (`online` proves it); the area was withdrawn, fenced and emptied above.
        unsafe { self.keep_or_unmap_area(cpu.number) };
    }
}

/// Undoes a step of a transition, on a refusal and if a listener panics, unless it is told to forget it.
struct Undo<F: Fn()>(F);

impl<F: Fn()> Undo<F> {
    fn forget(self) {
        core::mem::forget(self);
    }
}

impl<F: Fn()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
