//! The director: passes the baton among the threads of a scenario, so that one runs at a time, and records which
//! threads could have run instead.
//!
//! The threads are real ones, kept for all runs; each waits until it has the baton. A thread passes it on at a *pause*:
//! before it takes a lock, after it releases one, inside a section, before a fence, after a named step, when it waits
//! or is done. What a thread waits for is known (a wake, a lock that must be free), so a thread that cannot continue is
//! never chosen; if none can, that is a deadlock, and the threads are left where they are. A thread that sleeps sleeps
//! until another wakes it, so a wake that is forgotten is a deadlock too.
//!
//! Memory order is not explored: every run is sequentially consistent. Nor is what happens between two pauses: plain
//! loads and stores of one thread between them count as one step. Other checkers cover both.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};

use kmem_core::platform::{CacheStep, LockStep, Step};
use kmem_core::sync::{AtomicUsize, Ordering, Rank};

use super::event::{self, Event, Name, What};
use super::plan::Plan;
use super::schedule::{Decision, MAX_THREADS, Schedule, Set};
use super::seat::{self, Seat};

/// Pauses after which a run counts as endless.
const PAUSES_MAX: usize = 100_000;
/// The holder of the baton when no thread runs.
const NOBODY: usize = usize::MAX;
/// The holder of the baton when there will be no further run.
const DISMISSED: usize = usize::MAX - 1;

/// How a run failed, as far as the director can tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A slot was needed that does not exist: here the kernel of 2004 crashed.
    NoSlot {
        /// Which of the two races of 2004 it is.
        race: u8,
        /// The cache.
        cache: Name,
        /// The CPU.
        cpu: usize,
    },
    /// No thread can continue.
    Deadlock,
    /// The threads never end.
    Endless,
    /// A lock of a descriptor that was freed was taken (I19).
    UseAfterFree,
    /// Something was freed that is not an object in use (I7).
    BadFree,
    /// A thread panicked.
    Panic(String),
}

/// One run.
pub(super) struct Run {
    pub(super) decisions: Vec<Decision>,
    pub(super) events: Vec<Event>,
    pub(super) fault: Option<Fault>,
    /// Threads are left in the middle of it, so the director cannot be used again.
    pub(super) stuck: bool,
}

impl Run {
    pub(super) fn schedule(&self) -> Schedule {
        Schedule::of(&self.decisions)
    }
}

#[derive(Clone, Copy)]
enum Pending {
    Ready,
    /// Until the word is this one.
    Until(*const AtomicUsize, usize),
    /// Until another thread wakes those that sleep on the word.
    Asleep(*const AtomicUsize),
    Done,
}

impl Pending {
    fn is_able(self) -> bool {
        // SAFETY: the thread that waits here borrows the word for as long as it waits.
        let now = |word: *const AtomicUsize| unsafe { &*word }.load(Ordering::Relaxed);
        match self {
            Self::Ready => true,
            Self::Until(word, value) => now(word) == value,
            Self::Asleep(_) | Self::Done => false,
        }
    }
}

type Job = Arc<dyn Fn(usize) + Send + Sync>;

struct State {
    job: Option<Job>,
    pending: [Pending; MAX_THREADS],
    threads: usize,
    plan: Plan,
    decisions: Vec<Decision>,
    events: Vec<Event>,
    fault: Option<Fault>,
    pauses: usize,
    /// Addresses and lengths of freed descriptors.
    freed: Vec<(usize, usize)>,
}

// SAFETY: the words that threads wait for are only read while those threads wait.
unsafe impl Send for State {}

/// The director and the seats.
pub(super) struct Director {
    state: Mutex<State>,
    baton: AtomicUsize,
    seats: [OnceLock<Thread>; MAX_THREADS],
    /// The thread that waits for the end of the run.
    audience: Mutex<Option<Thread>>,
}

/// Only the director itself can panic with the lock held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Director {
    /// A director with all its threads.
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            job: None,
            pending: [Pending::Done; MAX_THREADS],
            threads: 0,
            plan: Plan::default(),
            decisions: Vec::new(),
            events: Vec::new(),
            fault: None,
            pauses: 0,
            freed: Vec::new(),
        };
        let director = Arc::new(Self {
            state: Mutex::new(state),
            baton: AtomicUsize::new(NOBODY),
            seats: [const { OnceLock::new() }; MAX_THREADS],
            audience: Mutex::new(None),
        });
        for thread in 0..MAX_THREADS {
            let seat = Seat { director: director.clone(), thread };
            let handle = thread::Builder::new()
                .name(format!("explored {thread}"))
                .spawn(move || perform(seat))
                .expect("a thread");
            director.seats[thread].get_or_init(|| handle.thread().clone());
        }
        director
    }

    /// Runs `job(0)` to `job(threads - 1)` by `plan`, to the end or until none can continue. In the latter case the
    /// director and its threads cannot be used again.
    pub(super) fn run(&self, threads: usize, plan: Plan, job: Job) -> Run {
        let mut state = locked(&self.state);
        state.job = Some(job);
        state.pending = std::array::from_fn(|thread| if thread < threads { Pending::Ready } else { Pending::Done });
        state.threads = threads;
        state.plan = plan;
        state.pauses = 0;
        (state.decisions, state.events, state.fault) = (Vec::with_capacity(256), Vec::with_capacity(64), None);
        state.freed.clear();
        *locked(&self.audience) = Some(thread::current());
        self.pass_on(state, MAX_THREADS - 1);
        while self.baton.load(Ordering::Acquire) != NOBODY {
            thread::park();
        }
        let mut state = locked(&self.state);
        state.job = None;
        Run {
            decisions: std::mem::take(&mut state.decisions),
            events: std::mem::take(&mut state.events),
            fault: state.fault.take(),
            stuck: state.pending.iter().any(|pending| !matches!(pending, Pending::Done)),
        }
    }

    /// Passes the baton to the thread that is next after `current`, which may be `current` itself.
    fn pass_on(&self, mut state: MutexGuard<'_, State>, current: usize) {
        let next = state.next(current);
        let here = next == Some(current);
        drop(state);
        if here {
            return;
        }
        let baton = next.unwrap_or(NOBODY);
        // An unpark is remembered, so a thread that is not parked yet does not sleep.
        let audience = if baton == NOBODY { locked(&self.audience).take() } else { None };
        self.baton.store(baton, Ordering::Release);
        match next.and_then(|next| self.seats[next].get()) {
            Some(thread) => thread.unpark(),
            None => _ = audience.map(|thread| thread.unpark()),
        }
    }

    /// Lets the threads end. Those that a deadlock left in the middle of a run stay there.
    pub(super) fn dismiss(&self) {
        self.baton.store(DISMISSED, Ordering::Release);
        self.seats.iter().filter_map(OnceLock::get).for_each(Thread::unpark);
    }

    fn await_baton(&self, me: usize) {
        while self.baton.load(Ordering::Acquire) != me {
            thread::park();
        }
    }

    fn pass(&self, state: MutexGuard<'_, State>, me: usize) {
        self.pass_on(state, me);
        self.await_baton(me);
    }

    /// Other threads may run here.
    pub(super) fn pause(&self, me: usize) {
        self.pass(locked(&self.state), me);
    }

    /// The engine is at a lock.
    pub(super) fn at_lock(&self, me: usize, step: LockStep<'_>) {
        let mut state = locked(&self.state);
        match step {
            LockStep::Lock { rank, word } => {
                state.look_out(word);
                if rank <= Rank::Node {
                    state.pending[me] = Pending::Until(word, 0);
                    self.pass(state, me);
                }
            }
            LockStep::TryLock { word, .. } => {
                state.look_out(word);
                self.pass(state, me);
            }
            // Below the controls of CPUs everything shared is guarded by locks, so pausing before each lock is enough.
            LockStep::Unlocked { rank: Rank::Gate | Rank::Life | Rank::Cpu } => self.pass(state, me),
            LockStep::Unlocked { .. } => {}
        }
    }

    /// The engine is at a step.
    pub(super) fn step(&self, me: usize, step: Step<'_>) {
        let mut state = locked(&self.state);
        if let Step::Cache { cache, did } = step {
            let address = std::ptr::from_ref(cache) as usize;
            match did {
                CacheStep::Described { bytes } => {
                    state.freed.retain(|(at, len)| at + len <= address || address + bytes <= *at)
                }
                CacheStep::Freed { bytes } => state.freed.push((address, bytes)),
                _ => {}
            }
        }
        let what = What::of(step);
        state.events.push(Event { thread: me, what });
        if let What::NoSlot { cache, cpu, .. } = what {
            let race = event::race(&state.events, cache, cpu);
            state.fault.get_or_insert(Fault::NoSlot { race, cache, cpu });
        }
        if what.interrupts() {
            self.pass(state, me);
        }
    }

    /// Records that the run has failed.
    pub(super) fn fail(&self, fault: Fault) {
        locked(&self.state).fault.get_or_insert(fault);
    }

    /// Records a step of the scenario.
    pub(super) fn note(&self, me: usize, what: What) {
        locked(&self.state).events.push(Event { thread: me, what });
    }

    /// Sleeps while `*word == expected`.
    pub(super) fn wait(&self, me: usize, word: &AtomicUsize, expected: usize) {
        let mut state = locked(&self.state);
        // No other thread runs between this look and the sleep, so no wake is missed.
        if word.load(Ordering::Relaxed) == expected {
            state.pending[me] = Pending::Asleep(word);
        }
        self.pass(state, me);
    }

    /// Wakes at most this many of the threads that sleep on the word.
    pub(super) fn wake(&self, word: &AtomicUsize, most: usize) {
        let mut state = locked(&self.state);
        let asleep = |pending: &&mut Pending| matches!(pending, Pending::Asleep(on) if std::ptr::eq(*on, word));
        state.pending.iter_mut().filter(asleep).take(most).for_each(|pending| *pending = Pending::Ready);
    }

    fn done(&self, me: usize, panic: Option<Box<dyn Any + Send>>) {
        let mut state = locked(&self.state);
        if let Some(panic) = panic {
            let text = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned());
            state.fault.get_or_insert(Fault::Panic(text.unwrap_or_default()));
        }
        state.pending[me] = Pending::Done;
        self.pass_on(state, me);
    }
}

impl State {
    /// The thread that runs after `current`; `None` if the run is over.
    fn next(&mut self, current: usize) -> Option<usize> {
        self.pauses += 1;
        if self.pauses > PAUSES_MAX {
            self.fault = Some(Fault::Endless);
            return None;
        }
        let able =
            (0..self.threads).fold(0, |set: Set, thread| set | Set::from(self.pending[thread].is_able()) << thread);
        let next = match able.count_ones() {
            0 => {
                if self.pending.iter().any(|pending| !matches!(pending, Pending::Done)) {
                    self.note_stuck();
                    self.fault.get_or_insert(Fault::Deadlock);
                }
                return None;
            }
            1 => able.trailing_zeros() as u8,
            // After a fault the run only has to end.
            _ if self.fault.is_some() => super::schedule::default(able, current as u8),
            _ => {
                let chosen = self.plan.choose(able, current as u8, self.decisions.len());
                self.decisions.push(Decision { able, current: current as u8, chosen });
                chosen
            }
        };
        self.pending[usize::from(next)] = Pending::Ready;
        Some(usize::from(next))
    }

    /// Records which threads are left, and how.
    fn note_stuck(&mut self) {
        for (thread, pending) in self.pending.iter().enumerate() {
            match pending {
                Pending::Asleep(_) => self.events.push(Event { thread, what: What::Stuck { asleep: true } }),
                Pending::Until(..) => self.events.push(Event { thread, what: What::Stuck { asleep: false } }),
                Pending::Ready | Pending::Done => {}
            }
        }
    }

    /// Records a fault if a lock that is about to be taken is in memory that was freed.
    fn look_out(&mut self, word: &AtomicUsize) {
        let at = std::ptr::from_ref(word) as usize;
        if self.freed.iter().any(|(start, len)| (*start..start + len).contains(&at)) {
            self.fault.get_or_insert(Fault::UseAfterFree);
        }
    }
}

/// The body of a thread of the director.
fn perform(seat: Seat) {
    let (director, me) = (seat.director.clone(), seat.thread);
    seat::take(seat);
    // A new run may begin as soon as this thread has passed the baton on.
    loop {
        match director.baton.load(Ordering::Acquire) {
            DISMISSED => return,
            baton if baton == me => {}
            _ => {
                thread::park();
                continue;
            }
        }
        let job = locked(&director.state).job.clone();
        let panic = catch_unwind(AssertUnwindSafe(|| job.into_iter().for_each(|job| job(me)))).err();
        director.done(me, panic);
    }
}
