//! One turn, and what is kept from one to the next.

use kmem_core::Engine;
use kmem_core::cpu::CpuSet;
use kmem_core::platform::Clock;

use crate::control::{CpuPolicy, cpu_policy};
use crate::follow::{Entitlement, Follower, Lack, Lacks, On, Pressure};
use crate::linux::{Linux, topology};
use crate::page::{Page, Turn};

use super::thread;

/// Until a thread is asked for again that could not be had, in nanoseconds.
const RETRY: u64 = 10_000_000_000;

/// What is kept from turn to turn.
pub(crate) struct Work {
    /// When a slow path first looked; `None`: none has.
    pub(super) born: Option<u64>,
    pub(super) last_turn: u64,
    start_again: u64,
    turns: u64,
    /// What the kernel does not give us.
    pub(super) lacks: Lacks,
    /// CPUs that are not to be disturbed; `None`: not yet asked.
    isolated: Option<CpuSet>,
    follower: Follower,
    entitlement: Entitlement,
    pressure: Pressure,
    page: Page,
}

impl Work {
    pub(super) const fn new() -> Self {
        Self {
            born: None,
            last_turn: 0,
            start_again: 0,
            turns: 0,
            lacks: Lacks::none(),
            isolated: None,
            follower: Follower::new(),
            entitlement: Entitlement::new(),
            pressure: Pressure::new(),
            page: Page::none(),
        }
    }

    /// Begins anew in a child, whose page is its parent's and not mapped here.
    pub(super) fn forget(&mut self) {
        (self.born, self.last_turn, self.start_again, self.turns) = (None, 0, 0, 0);
        self.lacks = Lacks::none();
        self.follower.forget();
        self.entitlement = Entitlement::new();
        self.pressure = Pressure::new();
        self.page = Page::none();
    }

    /// Takes a turn on a slow path of the program's: it waits for no other thread, runs no code of the program's, and makes
    /// no system call but those of an allocation. A sandbox that the program is in by now may kill it for any other, and a
    /// fence from afar is one.
    ///
    /// Its stack is the program's too, where the frame of a whole turn has no room.
    #[cold]
    #[inline(never)]
    pub(super) fn turn_on_slow_path(&mut self, engine: &Engine<Linux>) {
        self.turns += 1;
        let _ = match cpu_policy() {
            CpuPolicy::Fixed => Default::default(),
            CpuPolicy::Follow if engine.platform().fences_quietly() => engine.age(CpuSet::NONE),
            CpuPolicy::Follow => engine.age_here(),
        };
        let _ = engine.end_period();
    }

    /// Starts the thread that is wanted. One that could not be had is asked for again later.
    pub(super) fn see_to_thread(&mut self, now: u64) {
        if now >= self.start_again {
            let started = thread::start();
            self.lacks.set(Lack::Thread, !started);
            self.start_again = if started { 0 } else { now + RETRY };
        }
    }

    /// Takes a turn on the thread, which may wait for transitions, and ask the kernel; returns whether anything is left for
    /// a later one.
    #[cold]
    pub(super) fn turn(&mut self, engine: &Engine<Linux>) -> bool {
        self.turns += 1;
        self.lacks.set(Lack::Ids, engine.platform().lacks_ids());
        let mut left = false;
        let isolated = *self.isolated.get_or_insert_with(topology::isolated);
        if cpu_policy() == CpuPolicy::Follow {
            left |= self.follower.follow(engine, On::Upkeep, &mut self.lacks);
        }
        let spared = engine.platform().slots_on_isolated(&isolated, self.follower.allowed());
        if cpu_policy() == CpuPolicy::Follow {
            left |= engine.age(&spared).left;
            self.entitlement.look(self.follower.allowed(), &mut self.lacks);
            self.entitlement.hold(engine, &spared);
        }
        if self.pressure.is_high(&mut self.lacks) {
            engine.relieve(&spared);
        }
        left |= engine.decay().left;
        self.publish(engine);
        left
    }

    /// What turns found that the kernel does not give us.
    pub(crate) fn lacks(&self) -> Lacks {
        self.lacks
    }

    /// The follower's part of a turn, on a thread of the program's, which asked for it.
    pub(crate) fn follow(&mut self, engine: &Engine<Linux>) {
        self.follower.follow(engine, On::Program, &mut self.lacks);
    }

    /// Makes the page, in the thread's own table of descriptors, where it stays open.
    pub(super) fn keep_page_open(&mut self, engine: &Engine<Linux>) {
        self.page.make_and_keep(engine, &mut self.lacks);
    }

    /// Writes what there is now to the page.
    pub(crate) fn publish(&mut self, engine: &Engine<Linux>) {
        let turn = Turn {
            allowed: self.follower.allowed().len(),
            entitled: self.entitlement.cpus(),
            turns: self.turns,
            now: engine.platform().now(),
            lacks: &mut self.lacks,
        };
        self.page.write(engine, turn);
    }
}
