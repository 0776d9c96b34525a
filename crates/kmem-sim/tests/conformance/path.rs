//! From what happened in a run to actions of the model.
//!
//! An event of the engine is one or several actions: that a slot was enabled is the life lock, the enabling, and the
//! lock's release. What the engine does not tell is put where it must have been: a stop before a slot is disabled, a
//! walk's visits before its end. An action whose guard does not hold is where the run leaves the model.

use kmem_core::platform::{CpuStep, SlotStep};
use kmem_sim::explore::event::{CacheEvent, Cpus, Event, Name, What};

use super::actions::{self, CACHES, CPUS, CpuState, Life, OBJECTS, State, THREADS};

/// No object.
const NONE: [bool; OBJECTS] = [false; OBJECTS];
/// Any object: the area is kept.
const ALL: [bool; OBJECTS] = [true; OBJECTS];
/// The thread that did what was done before the run.
const BEFORE: usize = THREADS - 1;

/// Where a run leaves the model.
#[derive(Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The number of the event.
    pub event: usize,
    /// The action that was not possible.
    pub action: &'static str,
}

/// What a thread is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Nothing,
    /// A create that has still to look which CPUs are online, and will see these.
    Create(usize, Cpus),
    /// A create that has looked, and enables slots there.
    MakingSlots,
    /// The preparation of a CPU, which enables slots.
    Prepare,
    /// A transition that may have to empty its CPU.
    Transition(usize),
    /// A destroy.
    Destroy(usize),
}

/// A path of the model, as far as it has been followed.
pub struct Path {
    state: State,
    names: [Option<Name>; CACHES],
    threads: [In; THREADS],
    event: usize,
    /// How many actions it has.
    pub actions: usize,
}

macro_rules! act {
    ($path:ident, $action:ident $(, $given:expr)*) => {{
        let after = actions::$action(&$path.state $(, $given)*);
        $path.state = after.ok_or(Stuck { event: $path.event, action: stringify!($action) })?;
        $path.actions += 1;
    }};
}

impl Path {
    /// The path of `events`, on a machine of which these CPUs are online at first, with the gate or without.
    pub fn of(events: &[Event], online: &[usize], gate: bool) -> Result<Self, Stuck> {
        let mut state = State { gate, fenced: [true; CPUS], ..State::default() };
        for cpu in online {
            (state.online[*cpu], state.state[*cpu]) = (true, CpuState::Online);
        }
        let mut path = Self { state, names: [None; CACHES], threads: [In::Nothing; THREADS], event: 0, actions: 0 };
        for cache in made_before(events) {
            let cache = path.new_cache(cache);
            act!(path, list_cache, cache);
            for cpu in online {
                path.enable(BEFORE, *cpu, cache)?;
            }
        }
        for (number, event) in events.iter().enumerate() {
            path.event = number;
            path.follow(event.thread, event.what, &events[number..])?;
            path.count_cpus()?;
        }
        Ok(path)
    }

    fn new_cache(&mut self, name: Name) -> usize {
        let place = (0..CACHES).find(|cache| self.names[*cache].is_none()).expect("a scenario with few caches");
        self.names[place] = Some(name);
        place
    }

    /// The cache of this name: the one that is listed, if there are two.
    fn cache(&self, name: Name) -> Result<usize, Stuck> {
        let named = |cache: &usize| self.names[*cache] == Some(name);
        let listed = (0..CACHES).filter(named).find(|cache| self.state.listed[*cache]);
        listed.or_else(|| (0..CACHES).find(named)).ok_or(Stuck { event: self.event, action: "of no cache" })
    }

    fn follow(&mut self, t: usize, what: What, rest: &[Event]) -> Result<(), Stuck> {
        match what {
            What::Cache { cache, did } => self.follow_cache(t, cache, did, rest),
            What::Cpu { cpu, did } => self.follow_cpu(t, cpu, did),
            What::Slot { cache, cpu, did } => self.follow_slot(t, self.cache(cache)?, cpu, did, rest),
            _ => Ok(()),
        }
    }

    fn follow_cache(&mut self, t: usize, name: Name, did: CacheEvent, rest: &[Event]) -> Result<(), Stuck> {
        match (did, self.threads[t]) {
            (CacheEvent::Listed, _) => {
                let cache = self.new_cache(name);
                act!(self, list_cache, cache);
                self.threads[t] = counted(rest, t).map_or(In::Nothing, |cpus| In::Create(cache, cpus));
            }
            (CacheEvent::SlotsMade(cpus), _) => {
                let cache = self.cache(name)?;
                self.same_cpus(cpus, |state, cpu| state.to_make[cache][cpu])?;
                self.threads[t] = In::Nothing;
            }
            (CacheEvent::Dying, _) => {
                let cache = self.cache(name)?;
                self.users_hold(t, cache, checked(rest, t) > 0)?;
                act!(self, die, cache);
                self.threads[t] = In::Destroy(cache);
            }
            (CacheEvent::Draining(cpus), doing) => {
                let cache = self.cache(name)?;
                self.same_cpus(cpus, |state, cpu| state.enabled[cpu][cache])?;
                if doing == In::Destroy(cache) {
                    act!(self, choose_holders, cache);
                }
            }
            (CacheEvent::Drained, In::Destroy(cache)) => {
                for k in 0..CPUS {
                    if self.state.to_drain[cache][k] {
                        act!(self, lock, t, k);
                        act!(self, slot_drained, t, k, cache);
                        act!(self, resume, t, k);
                    }
                }
                act!(self, slots_drained, cache);
                act!(self, depots_drained, cache);
            }
            (CacheEvent::Revived, In::Destroy(cache)) => {
                self.revive(cache)?;
                self.threads[t] = In::Nothing;
            }
            (CacheEvent::Unlisted, In::Destroy(cache)) => act!(self, unlist, cache),
            (CacheEvent::Freed, In::Destroy(cache)) => {
                act!(self, free_descriptor, cache);
                (self.names[cache], self.threads[t]) = (None, In::Nothing);
            }
            // The descriptor of a create: nobody knows it before it is listed, nor ever if it is not.
            (CacheEvent::Described | CacheEvent::Checked(_) | CacheEvent::Freed, _) => {}
            (CacheEvent::Drained | CacheEvent::Revived | CacheEvent::Unlisted, _) => {
                return Err(Stuck { event: self.event, action: "of no destroy" });
            }
        }
        Ok(())
    }

    fn follow_cpu(&mut self, t: usize, k: usize, did: CpuStep) -> Result<(), Stuck> {
        match did {
            CpuStep::Preparing => {
                self.prepare(k)?;
                self.threads[t] = In::Prepare;
            }
            CpuStep::Prepared => self.threads[t] = In::Transition(k),
            CpuStep::Online => {
                self.come_online(k)?;
                act!(self, end_transition, k);
                self.threads[t] = In::Nothing;
            }
            CpuStep::Draining => {
                act!(self, begin_transition, k);
                act!(self, go_down, k);
                self.threads[t] = In::Transition(k);
            }
            CpuStep::Offline => act!(self, go_offline, k),
            CpuStep::Canceled | CpuStep::Dead => {
                self.walk(t, k)?;
                for cache in 0..CACHES {
                    if self.state.to_visit[k][cache] {
                        act!(self, lock, t, k);
                        act!(self, visit, t, k, cache);
                        act!(self, resume, t, k);
                    }
                }
                act!(self, end_walk, k, 0, &ALL);
                act!(self, end_transition, k);
                self.threads[t] = In::Nothing;
            }
        }
        Ok(())
    }

    fn follow_slot(&mut self, t: usize, cache: usize, k: usize, did: SlotStep, rest: &[Event]) -> Result<(), Stuck> {
        match did {
            SlotStep::Enabled => {
                if self.state.state[k] == CpuState::Offline && next_of_cpu(rest, k) == Some(CpuStep::Preparing) {
                    self.prepare(k)?;
                }
                self.enable(t, k, cache)
            }
            SlotStep::Emptied => Ok(()),
            SlotStep::Disabled => {
                if self.threads[t] == In::Transition(k) {
                    self.walk(t, k)?;
                }
                self.stop(t, k)?;
                // A slot is disabled by whoever drains it, whether or not it has a magazine.
                if self.state.enabled[k][cache] {
                    act!(self, disable, t, k, cache);
                }
                act!(self, resume, t, k);
                Ok(())
            }
        }
    }

    fn enable(&mut self, t: usize, k: usize, cache: usize) -> Result<(), Stuck> {
        if self.state.life[cache] == Life::Drained && self.threads.contains(&In::Destroy(cache)) {
            self.revive(cache)?;
        }
        act!(self, lock_life, t, cache);
        match self.threads[t] {
            In::MakingSlots => act!(self, enable_created, t, k, cache),
            In::Prepare => act!(self, enable_prepared, t, k, cache),
            _ => {
                if self.state.state[k] == CpuState::Prepared && self.threads.contains(&In::Transition(k)) {
                    self.come_online(k)?;
                }
                act!(self, enable_missed, t, k, cache);
            }
        }
        act!(self, unlock_life, t, cache);
        Ok(())
    }

    /// Creates look which CPUs are online, at the first moment at which they see what they will tell that they saw.
    fn count_cpus(&mut self) -> Result<(), Stuck> {
        for t in 0..THREADS {
            let In::Create(cache, cpus) = self.threads[t] else { continue };
            let coming =
                |k: usize| self.state.state[k] == CpuState::Prepared && self.threads.contains(&In::Transition(k));
            if (0..CPUS).all(|k| cpus.contains(k) == self.state.online[k] || cpus.contains(k) && coming(k)) {
                for k in (0..CPUS).filter(|k| cpus.contains(*k)) {
                    if !self.state.online[k] {
                        self.come_online(k)?;
                    }
                }
                act!(self, count_cpus, cache);
                self.threads[t] = In::MakingSlots;
            }
        }
        Ok(())
    }

    /// A destroy found the cache busy, which is told once others may have seen it.
    fn revive(&mut self, cache: usize) -> Result<(), Stuck> {
        if self.state.life[cache] != Life::Live {
            act!(self, revive, cache);
        }
        Ok(())
    }

    /// A preparation begins, which is told once others may have seen it.
    fn prepare(&mut self, k: usize) -> Result<(), Stuck> {
        if self.state.state[k] != CpuState::Prepared {
            act!(self, begin_transition, k);
            act!(self, prepare, k);
        }
        Ok(())
    }

    /// The last step of a preparation, which is told once others may have seen it.
    fn come_online(&mut self, k: usize) -> Result<(), Stuck> {
        if self.state.state[k] != CpuState::Online {
            act!(self, come_online, k);
        }
        Ok(())
    }

    fn stop(&mut self, t: usize, k: usize) -> Result<(), Stuck> {
        act!(self, lock, t, k);
        if self.state.published[k] {
            act!(self, withdraw, t, k);
        }
        act!(self, fence_afar, t, k);
        Ok(())
    }

    /// A transition begins to empty its CPU, if it has not.
    fn walk(&mut self, t: usize, k: usize) -> Result<(), Stuck> {
        if self.state.walking[k] {
            return Ok(());
        }
        if self.state.state[k] == CpuState::Prepared {
            act!(self, cancel, k);
        }
        self.stop(t, k)?;
        act!(self, resume, t, k);
        act!(self, begin_walk, k);
        Ok(())
    }

    /// What users did before a destroy: they hold an object, or they have freed it.
    fn users_hold(&mut self, t: usize, cache: usize, hold: bool) -> Result<(), Stuck> {
        let object = cache;
        if hold == self.state.user[object] {
            return Ok(());
        }
        act!(self, begin, t, cache);
        if hold {
            if !self.state.born[object] {
                act!(self, carve, t, object);
            }
            act!(self, refill, t, object);
            act!(self, hand_out, t, object);
        } else {
            act!(self, take_back, t, object);
            act!(self, flush, t, object, &NONE);
        }
        act!(self, end, t, cache);
        Ok(())
    }

    /// The CPUs of the event are those of the model.
    fn same_cpus(&self, told: Cpus, of_model: impl Fn(&State, usize) -> bool) -> Result<(), Stuck> {
        let same = (0..CPUS).all(|cpu| told.contains(cpu) == of_model(&self.state, cpu));
        if same { Ok(()) } else { Err(Stuck { event: self.event, action: "the same CPUs" }) }
    }

    /// Whether all that were to be destroyed are gone, and no transition is left in the middle.
    pub fn is_over(&self) -> bool {
        let gone = |cache: usize| matches!(self.state.life[cache], Life::Absent | Life::Live);
        (0..CACHES).all(gone) && self.state.transition == [false; CPUS]
    }
}

/// Caches that are there before the run: the run tells of them and does not describe them.
fn made_before(events: &[Event]) -> Vec<Name> {
    let (mut known, mut before) = (Vec::new(), Vec::new());
    for event in events {
        let (What::Cache { cache, .. } | What::Slot { cache, .. }) = event.what else { continue };
        if !known.contains(&cache) {
            known.push(cache);
            if !matches!(event.what, What::Cache { did: CacheEvent::Described, .. }) {
                before.push(cache);
            }
        }
    }
    before
}

/// On which CPUs the thread's create makes slots.
fn counted(rest: &[Event], t: usize) -> Option<Cpus> {
    rest.iter().filter(|event| event.thread == t).find_map(|event| match event.what {
        What::Cache { did: CacheEvent::SlotsMade(cpus), .. } => Some(cpus),
        _ => None,
    })
}

/// What the CPU is told to do next.
fn next_of_cpu(rest: &[Event], k: usize) -> Option<CpuStep> {
    rest.iter().find_map(|event| match event.what {
        What::Cpu { cpu, did } if cpu == k => Some(did),
        _ => None,
    })
}

/// How many objects the thread's destroy will find in use.
fn checked(rest: &[Event], t: usize) -> usize {
    let found = rest.iter().filter(|event| event.thread == t).find_map(|event| match event.what {
        What::Cache { did: CacheEvent::Checked(live), .. } => Some(live),
        _ => None,
    });
    found.unwrap_or(0)
}
