//! CPUs that left are taken down.
//!
//! ```text
//! in use      it has an area, and a thread may run there
//! gone        no thread may run there: taken down, magazines emptied, their memory and the area given back
//! resists     gone, but up again: a thread that we could not see runs there. Taken down again after 1 turn, then 3,
//!             7, ... up to a minute, so that it does not flap
//! back        a thread may run there again: it costs nothing until one does and misses. Gone again if it leaves first
//! ```
//! *Listeners* are the program's code: they run on its threads, when it asks for it. So where the program listens
//! upkeep makes no transition at all. Ageing empties the slots of a CPU that left, because no thread uses them; that it
//! left is told, and that it came back, when the program calls `hotplug::track_affinity`.
//!
//! A CPU that was taken down by name (`hotplug::cpu_down`) is none of the affinity tracker's business.
//!
//! Where slots go by concurrency id (`rseq::ids`) no id leaves: as many as there are beyond CPUs and threads are taken
//! down when they hold nothing. With listeners they stay, because it cannot be known which id is to be brought up
//! again.
//!
//! The last CPU cannot go (I43). If that is the one that left, one of those allowed is brought up first.

use kmem_core::cpu::{CpuSet, MAX_CPUS};
use kmem_core::sync::{AtomicU64, Ordering};
use kmem_core::{Engine, HotplugError};

use super::threads;
use super::unavailable::{Unavailable, UnavailableSet};
use crate::platform::Linux;
use crate::rseq::ids;

/// A CPU that keeps coming back waits for up to 2 to this power turns: about a minute.
const PATIENCE_MAX: u8 = 8;

/// The CPUs that the affinity tracker took down, for all who ask.
static GONE: [AtomicU64; MAX_CPUS / 64] = [const { AtomicU64::new(0) }; MAX_CPUS / 64];

/// Whether the affinity tracker took the CPU down, and holds it to be gone.
pub(crate) fn is_gone(cpu: usize) -> bool {
    GONE.get(cpu / 64).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (cpu % 64)) != 0)
}

fn note_gone(cpu: usize, gone: bool) {
    if let Some(word) = GONE.get(cpu / 64) {
        let bit = 1 << (cpu % 64);
        if gone {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
    }
}

/// The ids that hold nothing, as many as are in use beyond what threads on so many CPUs can have.
fn surplus(engine: &Engine<Linux>, active: &CpuSet, cpus: usize) -> CpuSet {
    if active.len() < 2 || engine.has_listeners() {
        return CpuSet::new();
    }
    let threads = threads::count();
    let beyond = active.len().saturating_sub(ids::most(cpus, threads));
    active.iter().filter(|id| engine.cached_on(*id).objects == 0).take(beyond).collect()
}

/// On whose thread the affinity tracker is at work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// A thread of upkeep's: none of the program's code runs there.
    Upkeep,
    /// The program's, which asked for it: listeners are called.
    Program,
}

/// What the affinity tracker believes.
pub(crate) struct AffinityTracker {
    allowed: CpuSet,
    /// CPUs that it took down and that are back, but on which nothing has been cached since: down still.
    unused: CpuSet,
    /// Turns until a CPU that resists is taken down again, and how often it was.
    wait: [u8; MAX_CPUS],
    resisted: [u8; MAX_CPUS],
}

impl AffinityTracker {
    pub(crate) const fn new() -> Self {
        Self { allowed: CpuSet::new(), unused: CpuSet::new(), wait: [0; MAX_CPUS], resisted: [0; MAX_CPUS] }
    }

    /// Forgets all, in a child.
    pub(crate) fn forget(&mut self) {
        self.unused = CpuSet::new();
        self.wait.fill(0);
        self.resisted.fill(0);
    }

    /// The CPUs that threads of this process may run on, as of the last turn; none where that is not known.
    pub(crate) fn allowed(&self) -> &CpuSet {
        &self.allowed
    }

    /// Takes down what left, and returns whether something that left is still up.
    pub(crate) fn follow(&mut self, engine: &Engine<Linux>, on: On, unavailable: &mut UnavailableSet) -> bool {
        let active = engine.active_cpus();
        let by_id = engine.platform().goes_by_id();
        let enough = |allowed: &CpuSet| {
            if by_id { active.len() <= allowed.len() } else { active.iter().all(|cpu| allowed.contains(cpu)) }
        };
        let Some(allowed) = threads::allowed(enough, unavailable) else {
            unavailable.add(Unavailable::Affinity);
            self.allowed = CpuSet::new();
            return false;
        };
        unavailable.remove(Unavailable::Affinity);
        self.allowed = allowed;
        if on == On::Upkeep && engine.has_listeners() {
            return false;
        }
        let left_behind = |cpu: &usize| !allowed.contains(*cpu);
        let (back, gone) = if by_id {
            // Where the program listens, an id does not come up by itself: those that may be in use are brought up.
            let back = if engine.has_listeners() { CpuSet::first(allowed.len()) } else { active };
            (back, surplus(engine, &active, allowed.len()))
        } else {
            (allowed, active.iter().filter(left_behind).collect())
        };
        self.unused.retain(|cpu| !active.contains(cpu));
        if !by_id {
            self.see_off_unused();
        }
        self.welcome(engine, on, &back);
        let mut left = false;
        for cpu in gone.iter() {
            left |= !self.take_down(engine, on, cpu);
        }
        left
    }

    /// CPUs that left again before anything was cached there: there is nothing to take down.
    fn see_off_unused(&mut self) {
        let Self { allowed, unused, .. } = self;
        unused.retain(|cpu| {
            let stays = allowed.contains(cpu);
            if !stays {
                note_gone(cpu, true);
            }
            stays
        });
    }

    /// CPUs that are back, if they are among these.
    fn welcome(&mut self, engine: &Engine<Linux>, on: On, back: &CpuSet) {
        let back: CpuSet = back.iter().filter(|cpu| is_gone(*cpu)).collect();
        for cpu in back.iter() {
            if on == On::Program && engine.has_listeners() {
                // Without listeners the first thread that runs there brings it up; here it comes up by name.
                let _ = engine.cpu_came(cpu);
            }
            note_gone(cpu, false);
            self.unused.insert(cpu);
            (self.wait[cpu], self.resisted[cpu]) = (0, 0);
        }
    }

    /// Takes a CPU down, unless it is to be waited for; returns whether it is down.
    fn take_down(&mut self, engine: &Engine<Linux>, on: On, cpu: usize) -> bool {
        if self.wait[cpu] > 0 {
            self.wait[cpu] -= 1;
            return false;
        }
        let down = match on {
            On::Upkeep => self.replace(cpu, |cpu| engine.cpu_left_quietly(cpu), |cpu| engine.cpu_came_quietly(cpu)),
            On::Program => self.replace(cpu, |cpu| engine.cpu_left(cpu), |cpu| engine.cpu_came(cpu)),
        };
        // A listener may have refused it: it is asked again as if the CPU had come back.
        self.wait[cpu] = ((1u16 << self.resisted[cpu]) - 1) as u8;
        self.resisted[cpu] = (self.resisted[cpu] + 1).min(PATIENCE_MAX);
        if down {
            note_gone(cpu, true);
        }
        down
    }

    /// Takes a CPU down by `left`; if it is the last, one of those allowed is brought up by `came` first.
    #[cold]
    fn replace(
        &self,
        cpu: usize,
        left: impl Fn(usize) -> Result<(), HotplugError>,
        came: impl Fn(usize) -> Result<(), HotplugError>,
    ) -> bool {
        match left(cpu) {
            Err(HotplugError::LastCpu { .. }) => {
                self.allowed.iter().any(|another| came(another).is_ok()) && left(cpu).is_ok()
            }
            result => result.is_ok(),
        }
    }
}
