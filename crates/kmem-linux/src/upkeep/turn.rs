//! One turn, and what is kept from one to the next.

use kmem_core::Engine;
use kmem_core::cpu::CpuSet;
use kmem_core::platform::Clock;

use crate::follow::{AffinityTracker, CpuBudget, On, Pressure, Unavailable, UnavailableSet};
use crate::os::topology;
use crate::platform::Linux;
use crate::policy::{CpuPolicy, cpu_policy};
use crate::status::{StatusPage, Turn};

use super::state::upkeep;

/// What is kept from turn to turn.
pub(crate) struct Work {
    /// When a slow path first looked; `None`: none has.
    pub(super) born: Option<u64>,
    pub(super) last_turn: u64,
    pub(super) start_again: u64,
    turns: u64,
    /// What the kernel does not give us.
    pub(super) unavailable: UnavailableSet,
    /// CPUs that are not to be disturbed; `None`: not yet asked.
    isolated: Option<CpuSet>,
    affinity: AffinityTracker,
    cpu_budget: CpuBudget,
    pressure: Pressure,
    page: StatusPage,
}

impl Work {
    pub(super) const fn new() -> Self {
        Self {
            born: None,
            last_turn: 0,
            start_again: 0,
            turns: 0,
            unavailable: UnavailableSet::none(),
            isolated: None,
            affinity: AffinityTracker::new(),
            cpu_budget: CpuBudget::new(),
            pressure: Pressure::new(),
            page: StatusPage::none(),
        }
    }

    /// Begins anew in a child, whose page is its parent's and not mapped here.
    pub(super) fn forget(&mut self) {
        (self.born, self.last_turn, self.start_again, self.turns) = (None, 0, 0, 0);
        self.unavailable = UnavailableSet::none();
        self.affinity.forget();
        self.cpu_budget = CpuBudget::new();
        self.pressure = Pressure::new();
        self.page = StatusPage::none();
    }

    /// Takes a turn on a slow path of the program's: it waits for no other thread, runs no code of the program's, and
    /// makes no system call but those of an allocation. A sandbox that the program is in by now may kill it for any
    /// other, and a fence from afar is one.
    ///
    /// Its stack is the program's too, where the frame of a whole turn has no room.
    #[cold]
    #[inline(never)]
    pub(super) fn turn_on_slow_path(&mut self, engine: &Engine<Linux>) {
        self.turns += 1;
        let _ = match cpu_policy() {
            CpuPolicy::Fixed => Default::default(),
            CpuPolicy::TrackAffinity if engine.platform().fences_quietly() => engine.age(CpuSet::NONE),
            CpuPolicy::TrackAffinity => engine.age_here(),
        };
        let _ = engine.end_period();
    }

    /// Takes a turn on the thread, which may wait for transitions, and ask the kernel; returns whether anything is left
    /// for a later one.
    #[cold]
    pub(super) fn turn(&mut self, engine: &Engine<Linux>) -> bool {
        self.turns += 1;
        self.unavailable.set(Unavailable::Ids, engine.platform().lacks_ids());
        let mut left = false;
        let isolated = *self.isolated.get_or_insert_with(topology::isolated);
        if cpu_policy() == CpuPolicy::TrackAffinity {
            left |= self.affinity.follow(engine, On::Upkeep, &mut self.unavailable);
        }
        let spared = engine.platform().slots_on_isolated(&isolated, self.affinity.allowed());
        if cpu_policy() == CpuPolicy::TrackAffinity {
            left |= engine.age(&spared).left;
            self.cpu_budget.look(self.affinity.allowed(), &mut self.unavailable);
            self.cpu_budget.hold(engine, &spared);
        }
        if self.pressure.is_high(&mut self.unavailable) {
            engine.relieve(&spared);
        }
        left |= engine.decay().left;
        self.publish(engine);
        left
    }

    /// What turns found that the kernel does not give us.
    pub(crate) fn unavailable(&self) -> UnavailableSet {
        self.unavailable
    }

    /// The affinity tracker's part of a turn, on a thread of the program's, which asked for it.
    pub(crate) fn follow(&mut self, engine: &Engine<Linux>) {
        self.affinity.follow(engine, On::Program, &mut self.unavailable);
    }

    /// Makes the page, in the thread's own table of descriptors, where it stays open.
    pub(super) fn keep_page_open(&mut self, engine: &Engine<Linux>) {
        self.page.make_and_keep(engine, &mut self.unavailable);
    }

    /// Writes what there is now to the page.
    pub(crate) fn publish(&mut self, engine: &Engine<Linux>) {
        let turn = Turn {
            allowed: self.affinity.allowed().len(),
            cpu_budget: self.cpu_budget.cpus(),
            turns: self.turns,
            upkeep: upkeep(),
            now: engine.platform().now(),
            unavailable: &mut self.unavailable,
        };
        self.page.write(engine, turn);
    }
}
