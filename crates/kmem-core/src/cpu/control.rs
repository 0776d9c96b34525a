//! The control of each CPU: its state, its area, and the lock under which both are changed.

use core::fmt;
use core::ptr::NonNull;

use super::proxy::Request;
use super::{AtomicCpuSet, CpuEvent, CpuSet, CpuState};
use crate::host::Host;
use crate::percpu::{Area, CpuTable};
use crate::sync::{AtomicUsize, Mutex, Rank};

/// What the lock of a CPU guards.
pub(crate) struct Control {
    state: CpuState,
    /// The CPU's area, once something was cached there. Published in the table only while the CPU is online and not
    /// stopped; kept for a while when it is offline.
    pub(crate) area: Option<Area>,
    /// Periods of decay that the area was kept for.
    pub(crate) kept_for: u8,
    /// The CPU stays down until it is brought up by name: a thread that runs there does not bring it up.
    pub(crate) held_down: bool,
}

impl Control {
    /// The state of the CPU.
    pub(crate) fn state(&self) -> CpuState {
        self.state
    }

    /// Changes the state by an event.
    ///
    /// # Panics
    /// If the event cannot happen in the CPU's state: transitions have checked that before.
    pub(crate) fn apply(&mut self, event: CpuEvent) {
        let next = self.state.next(event);
        debug_assert!(next.is_some(), "{event:?} in state {:?}", self.state);
        self.state = next.unwrap_or(self.state);
    }
}

/// One CPU, in a cache line of its own.
#[repr(align(64))]
pub struct CpuControl {
    pub(crate) lock: Mutex<Control>,
    /// Objects that were taken out of the CPU's slots from outside, since the beginning. Changed under the lock.
    pub(crate) drained: AtomicUsize,
    /// Asked while the CPU is stopped.
    pub(crate) request: Request,
}

impl fmt::Debug for CpuControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuControl").field("lock", &self.lock).finish_non_exhaustive()
    }
}

/// All possible CPUs.
pub struct Cpus {
    controls: NonNull<CpuControl>,
    count: usize,
    online: AtomicCpuSet,
    /// The CPUs whose area is kept although they are down.
    pub(crate) kept: AtomicCpuSet,
}

// SAFETY: the controls are locks in a mapping that lives as long as this.
unsafe impl Send for Cpus {}
// SAFETY: as above.
unsafe impl Sync for Cpus {}

impl fmt::Debug for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpus").field("possible", &self.count).field("online", &self.online()).finish_non_exhaustive()
    }
}

impl Cpus {
    /// `count` CPUs, of which those in `online` are online, with nothing cached yet.
    pub(crate) fn map<P: Host>(platform: &P, count: usize, online: &CpuSet) -> Option<Self> {
        let controls = platform.map(count * size_of::<CpuControl>())?.cast::<CpuControl>();
        let cpus = Self { controls, count, online: AtomicCpuSet::new(), kept: AtomicCpuSet::new() };
        for cpu in 0..count {
            let state = if online.contains(cpu) { CpuState::Online } else { CpuState::Offline };
            let control = Control { state, area: None, kept_for: 0, held_down: false };
            let control = CpuControl {
                lock: Mutex::new(Rank::Cpu, control),
                drained: AtomicUsize::new(0),
                request: Request::new(),
            };
            // SAFETY: the mapping has room for as many controls.
            unsafe { controls.add(cpu).write(control) };
            if online.contains(cpu) {
                cpus.online.insert(cpu);
            }
        }
        Some(cpus)
    }

    /// # Safety
    /// The controls are no longer used.
    pub(crate) unsafe fn unmap<P: Host>(&self, platform: &P) {
        // SAFETY: the mapping is that of `map`.
        unsafe { platform.unmap(self.controls.cast(), self.count * size_of::<CpuControl>()) }
    }

    /// CPU ids are below this.
    pub fn possible(&self) -> usize {
        self.count
    }

    /// The CPUs that are online at this moment: a hint for a caller that does not hold the gate.
    pub fn online(&self) -> CpuSet {
        self.online.snapshot()
    }

    /// The same one by one, without a copy of the set.
    pub(crate) fn online_now(&self) -> impl Iterator<Item = usize> + '_ {
        self.online.iter()
    }

    pub(crate) fn set_online(&self, cpu: usize, online: bool) {
        if online { self.online.insert(cpu) } else { self.online.remove(cpu) }
    }

    /// In a child, lets CPUs run again that were stopped by a thread that does not exist there, and ends its
    /// transition, if one was under way: each CPU is in the state that the set of online CPUs says.
    pub(crate) fn settle<P: Host>(&self, platform: &P, table: &CpuTable, in_transition: bool) {
        for (cpu, control) in self.iter().enumerate() {
            let Some(mut control) = control.lock.try_lock(platform) else { continue };
            if in_transition {
                control.state = if self.online.contains(cpu) { CpuState::Online } else { CpuState::Offline };
            }
            if let (CpuState::Online, Some(area)) = (control.state, control.area)
                && table.get(cpu) == table.empty()
            {
                // SAFETY: the control is held, and the area is the CPU's.
                unsafe { table.publish(cpu, area) };
            }
        }
    }

    /// The control of a CPU; `None` for an id out of range. This is the one place where ids are checked (I5).
    pub fn get(&self, cpu: usize) -> Option<&CpuControl> {
        // SAFETY: there are `count` controls.
        (cpu < self.count).then(|| unsafe { self.controls.add(cpu).as_ref() })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CpuControl> {
        (0..self.count).filter_map(|cpu| self.get(cpu))
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const CONTROLS: usize = offset_of!(Cpus, controls);
    pub(crate) const COUNT: usize = offset_of!(Cpus, count);
    pub(crate) const CONTROL_SIZE: usize = size_of::<CpuControl>();
    pub(crate) const STATE: usize = offset_of!(CpuControl, lock) + Mutex::<Control>::DATA + offset_of!(Control, state);
    pub(crate) const AREA: usize = offset_of!(CpuControl, lock) + Mutex::<Control>::DATA + offset_of!(Control, area);
    pub(crate) const HELD_DOWN: usize =
        offset_of!(CpuControl, lock) + Mutex::<Control>::DATA + offset_of!(Control, held_down);
    pub(crate) const DRAINED: usize = offset_of!(CpuControl, drained);
}
