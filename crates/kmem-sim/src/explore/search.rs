//! Which schedules are run, and in which order: see [`super`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::director::{Director, Fault, Run};
use super::event::Event;
use super::plan::{Plan, Random};
use super::schedule::{Schedule, Turn};

/// A scenario, set up for one run.
pub struct Stage {
    /// How many threads.
    pub threads: usize,
    /// What each of them does.
    pub act: Arc<dyn Fn(usize) + Send + Sync>,
    /// Checks what must hold when all are done; the error is what is wrong.
    pub check: Box<dyn FnOnce() -> Result<(), Broken>>,
}

/// How much is explored.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most schedules of the systematic search.
    pub systematic: usize,
    /// Most preemptions of a schedule of the systematic search.
    pub preemptions: usize,
    /// Random schedules after it (none where the systematic search was complete without a bound).
    pub random: usize,
    /// The seed of the random ones, and of the choice of systematic ones if not all are run.
    pub seed: u64,
    /// No schedule is begun after this time.
    pub time: Option<Duration>,
    /// No schedule is begun once this is true.
    pub stop: Option<&'static AtomicBool>,
    /// Whether no schedule is begun after one that failed.
    pub until_found: bool,
    /// Called, on the caller's thread, with what happened in each run that came to its end.
    pub watch: Option<fn(&[Event])>,
}

impl Limits {
    /// This many schedules, three quarters of them systematic.
    pub fn of(schedules: usize, seed: u64) -> Self {
        Self {
            systematic: schedules - schedules / 4,
            preemptions: 3,
            random: schedules / 4,
            seed,
            time: None,
            stop: None,
            until_found: false,
            watch: None,
        }
    }
}

/// What is wrong with a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The run itself failed.
    Fault(Fault),
    /// Something did not hold during it or at its end.
    Broken(Broken),
}

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its number in docs/invariants.md.
    pub invariant: u8,
    /// What is wrong.
    pub text: String,
}

impl Trouble {
    /// Whether it is the same kind of trouble.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fault(Fault::NoSlot { race, .. }), Self::Fault(Fault::NoSlot { race: of, .. })) => race == of,
            (Self::Fault(a), Self::Fault(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
            (Self::Broken(a), Self::Broken(b)) => a.invariant == b.invariant,
            _ => false,
        }
    }
}

/// A schedule that fails.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub trouble: Trouble,
    /// The schedule, to replay it.
    pub schedule: Schedule,
    /// What happened.
    pub events: Vec<Event>,
    /// The number of schedules run until it was found, including this one.
    pub after: usize,
}

/// What was explored.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Schedules run; no two systematic ones are the same.
    pub schedules: usize,
    /// Every schedule with up to this many preemptions was run.
    pub all_with_preemptions: Option<usize>,
    /// Every schedule was run.
    pub exhaustive: bool,
    /// The first schedule of each kind of failure.
    pub findings: Vec<Finding>,
    /// Schedules that failed.
    pub failures: usize,
}

struct Search<'a> {
    set_up: &'a dyn Fn() -> Stage,
    director: Arc<Director>,
    explored: Explored,
    deadline: Option<Instant>,
    stop: Option<&'static AtomicBool>,
    until_found: bool,
    watch: Option<fn(&[Event])>,
    /// Decisions of the longest run.
    longest: usize,
}

/// Runs schedules until the limits are reached.
pub fn explore(set_up: &dyn Fn() -> Stage, limits: &Limits) -> Explored {
    let deadline = limits.time.map(|time| Instant::now() + time);
    let mut search = Search::new(set_up, deadline, limits.stop);
    (search.until_found, search.watch) = (limits.until_found, limits.watch);
    let mut random = Random::new(limits.seed);
    search.systematic(limits, &mut random);
    let wanted = search.explored.schedules + if search.explored.exhaustive { 0 } else { limits.random };
    while search.may_go_on(wanted) {
        let depth = 2 + random.below(5);
        let plan = Plan::priorities(&mut random, search.longest, depth);
        search.run(plan);
    }
    std::mem::take(&mut search.explored)
}

/// Replays one schedule.
pub fn replay(set_up: &dyn Fn() -> Stage, schedule: &Schedule) -> Option<Finding> {
    let mut search = Search::new(set_up, None, None);
    search.run(Plan::turns(schedule.clone()));
    search.explored.findings.pop()
}

impl<'a> Search<'a> {
    fn new(set_up: &'a dyn Fn() -> Stage, deadline: Option<Instant>, stop: Option<&'static AtomicBool>) -> Self {
        Self {
            set_up,
            director: Director::new(),
            explored: Explored::default(),
            deadline,
            stop,
            until_found: false,
            watch: None,
            longest: 0,
        }
    }

    fn may_go_on(&self, schedules: usize) -> bool {
        let in_time = self.deadline.is_none_or(|deadline| Instant::now() < deadline);
        let stopped = self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
        let found = self.until_found && self.explored.failures > 0;
        self.explored.schedules < schedules && in_time && !stopped && !found
    }

    fn run(&mut self, plan: Plan) -> Run {
        let stage = (self.set_up)();
        let run = self.director.run(stage.threads, plan, stage.act);
        self.explored.schedules += 1;
        self.longest = self.longest.max(run.decisions.len());
        if run.stuck {
            // Its threads stay where they are, so a new director is needed.
            self.director.dismiss();
            self.director = Director::new();
        }
        if let (None, Some(watch)) = (&run.fault, self.watch) {
            watch(&run.events);
        }
        let trouble = match &run.fault {
            Some(fault) => Some(Trouble::Fault(fault.clone())),
            None => (stage.check)().err().map(Trouble::Broken),
        };
        if let Some(trouble) = trouble {
            self.explored.failures += 1;
            if !self.explored.findings.iter().any(|finding| finding.trouble.is_like(&trouble)) {
                let (schedule, events, after) = (run.schedule(), run.events.clone(), self.explored.schedules);
                self.explored.findings.push(Finding { trouble, schedule, events, after });
            }
        }
        run
    }

    /// Runs every schedule once, those with fewer preemptions first. A schedule is its turns; after its last turn all
    /// decisions are the default, and one more turn there makes another schedule.
    fn systematic(&mut self, limits: &Limits, random: &mut Random) {
        let mut waiting: Vec<Vec<Schedule>> = vec![vec![Schedule::default()]];
        // Whether nothing was cut off at the bound.
        let mut whole = true;
        let mut bound = 0;
        while bound < waiting.len() {
            while !waiting[bound].is_empty() {
                if !self.may_go_on(limits.systematic) {
                    return;
                }
                let next = random.below(waiting[bound].len());
                let schedule = waiting[bound].swap_remove(next);
                let from = schedule.turns.last().map_or(0, |turn| turn.at as usize + 1);
                let run = self.run(Plan::turns(schedule.clone()));
                for (at, decision) in run.decisions.iter().enumerate().skip(from) {
                    let preemptions = bound + usize::from(decision.preempts());
                    let others = (0..8).filter(|to| decision.able >> to & 1 != 0 && *to != decision.chosen);
                    if preemptions > limits.preemptions {
                        whole = false;
                        continue;
                    }
                    if waiting.len() == preemptions {
                        waiting.push(Vec::new());
                    }
                    waiting[preemptions].extend(others.map(|to| {
                        let mut turns = Vec::with_capacity(schedule.turns.len() + 1);
                        turns.extend_from_slice(&schedule.turns);
                        turns.push(Turn { at: at as u32, to });
                        Schedule { turns }
                    }));
                }
            }
            self.explored.all_with_preemptions = Some(bound);
            bound += 1;
        }
        self.explored.exhaustive = whole;
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        self.director.dismiss();
    }
}
