//! Scenarios: a few threads, each with a list of operations on caches and CPUs, and what must hold in any order.
//!
//! A scenario is data, so that it can be put into words. While it runs, a record is kept independently of the engine:
//! which objects users hold, which caches exist. At every step and at the end the engine is compared with it:
//!
//! - no object is allocated that is held already (I7); validate finds every object in one place, and none stranded (I6,
//!   I8);
//! - destroy returns Busy if and only if a user holds an object (I16), and then the cache works as before (I17);
//! - transitions return what they must, and CPUs are as their last transition left them (I40);
//! - every cache is charged to one account, and what is charged is what the caches have off their slabs (I45);
//! - once users have freed everything every cache can be destroyed, and nothing is left: no slab, no page, no
//!   descriptor, no magazine (I10, I12);
//! - no thread takes a lock of a descriptor that was freed (I19), and no thread waits for ever: these two are detected
//!   by the explorer.

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kmem_core::account::AccountSpec;
use kmem_core::cache::{CacheDesc, CacheId, CacheSpec};
use kmem_core::cpu::{CpuSet, Event, Listener, Refused};
use kmem_core::slab::FreeError;
use kmem_core::validate::Violation;
use kmem_core::{Config, CreateError, DestroyError, Engine, HotplugError, Population, TuneError};

use crate::Protocol;
use crate::explore::event::What;
use crate::explore::{Broken, Explored, Fault, Finding, Limits, Schedule, Stage, explore, replay, seat};
use crate::fake::{Fake, Machine, is_starved, run_on, starve_after};

/// The names of the caches in scenarios, by number.
pub const NAMES: [&str; 3] = ["minix_inode", "ext2_inode", "nfs_inode"];
/// Bytes of an object: so large that a magazine holds only eight of them, and a slab too.
const SIZE: usize = 8192;
/// Granules of the window.
const GRANULES: usize = 32;
/// The account of all caches.
const ACCOUNT: &str = "modules";

/// What a thread does. Caches are named by their index in [`NAMES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// kmem_cache_create.
    Create(usize),
    /// kmem_cache_destroy.
    Destroy(usize),
    /// kmem_cache_shrink.
    Shrink(usize),
    /// Sets the capacity of the cache's magazines.
    Tune(usize, usize),
    /// Allocates an object and keeps it.
    Alloc(usize),
    /// Frees the object that the thread allocated last.
    Free(usize),
    /// Brings a CPU up.
    Up(usize),
    /// Takes a CPU down.
    Down(usize),
    /// Asks for a CPU to come up, which a listener refuses once it is prepared.
    UpRefused(usize),
    /// Asks for a CPU to go down, which a listener refuses.
    DownRefused(usize),
    /// Asks for a CPU to come up, for which there is no memory.
    UpStarved(usize),
    /// kmem_cache_create, for whose slots there is no memory.
    CreateStarved(usize),
    /// The process may no longer use a CPU, and takes it down.
    Left(usize),
    /// The process may use a CPU again, and brings it up unless it is held down.
    Came(usize),
    /// Upkeep drains the slots that were not used since its last turn.
    Age,
    /// Releases all unused memory of all caches.
    Trim,
    /// Reads the figures of all caches.
    Look,
    /// Moves the thread to another CPU.
    RunOn(usize),
}

/// A thread of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// Its name for people: the command that it stands for.
    pub name: &'static str,
    /// The CPU that it begins on.
    pub cpu: usize,
    /// What it does.
    pub ops: &'static [Op],
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// CPUs that may exist.
    pub possible: usize,
    /// Those that are online at the beginning.
    pub online: &'static [usize],
    /// What happens beforehand, in one thread.
    pub before: Actor,
    /// The threads.
    pub actors: &'static [Actor],
    /// Whether a fence aborts sections. If not, the scenario is a negative control, which must fail.
    pub fences: bool,
    /// The node of each CPU, which need not exist; node 0 if empty.
    pub homes: &'static [usize],
    /// What else must hold at the end.
    pub after: After,
}

/// What must hold at the end besides what always must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Nothing.
    Nothing,
    /// No object is cached, because no thread used a cache since it was shrunk (I14).
    NothingCached,
    /// Two more turns of upkeep drain every slot (I27).
    UpkeepReaches,
}

/// A listed cache.
#[derive(Clone, Copy)]
struct Known {
    id: CacheId,
    desc: NonNull<CacheDesc>,
}

// SAFETY: the descriptor is shared between threads by the engine's own rules; scenarios use caches only while they
// exist.
unsafe impl Send for Known {}

#[derive(Default)]
struct Books {
    caches: [Option<Known>; NAMES.len()],
    /// Creates and destroys of this name that have begun.
    creates: [usize; NAMES.len()],
    destroys: [usize; NAMES.len()],
    /// Objects that users hold, with their caches.
    held: HashMap<usize, usize>,
    /// CPUs and whether their last transition brought them up.
    last: HashMap<usize, bool>,
    complaint: Option<Broken>,
}

impl Books {
    fn complain(&mut self, invariant: u8, text: String) {
        self.complaint.get_or_insert(Broken { invariant, text });
    }

    fn held_of(&self, cache: usize) -> usize {
        self.held.values().filter(|of| **of == cache).count()
    }
}

struct World {
    engine: Engine<Fake>,
    books: Mutex<Books>,
    metadata: usize,
}

thread_local! {
    /// A free was refused during the check at the end.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
    /// The transition that the calling thread asks for is to be refused.
    static UNWILLING: Cell<bool> = const { Cell::new(false) };
    /// Preparations that the second listener granted in the transition of the calling thread.
    static GRANTED: Cell<usize> = const { Cell::new(0) };
    /// The second listener heard of a cancel without a preparation.
    static UNASKED: Cell<bool> = const { Cell::new(false) };
}

/// Refuses the transitions that are to be refused.
struct Unwilling;

impl Listener for Unwilling {
    fn event(&self, event: Event, _cpu: usize) -> Result<(), Refused> {
        let asks = matches!(event, Event::UpPrepare | Event::DownPrepare);
        if asks && UNWILLING.get() { Err(Refused) } else { Ok(()) }
    }
}

/// Grants everything, and expects a cancel to follow what it granted.
struct Willing;

impl Listener for Willing {
    fn event(&self, event: Event, _cpu: usize) -> Result<(), Refused> {
        match event {
            Event::UpPrepare => GRANTED.set(1),
            Event::UpCanceled if GRANTED.replace(0) == 0 => UNASKED.set(true),
            _ => {}
        }
        Ok(())
    }
}

fn bad_free(_object: usize, _error: FreeError) {
    if !seat::fail(Fault::BadFree) {
        REFUSED.set(true);
    }
}

impl Scenario {
    /// Explores the scenario's schedules under a protocol.
    pub fn explore(&self, protocol: Protocol, limits: &Limits) -> Explored {
        explore(&|| self.stage(protocol), limits)
    }

    /// Replays one schedule.
    pub fn replay(&self, protocol: Protocol, schedule: &Schedule) -> Option<Finding> {
        replay(&|| self.stage(protocol), schedule)
    }

    fn has_refusals(&self) -> bool {
        let mut ops = self.actors.iter().flat_map(|actor| actor.ops);
        ops.any(|op| matches!(op, Op::UpRefused(_) | Op::DownRefused(_)))
    }

    fn stage(&self, protocol: Protocol) -> Stage {
        let online: CpuSet = self.online.iter().copied().collect();
        let machine = Machine {
            possible: self.possible,
            online,
            granules: GRANULES,
            fences: self.fences,
            protocol,
            homes: self.homes.to_vec(),
            ..Machine::with_cpus(1)
        };
        let config = Config { max_caches: NAMES.len() + 1, population: Population::Eager, bad_free };
        // SAFETY: scenarios use named caches only.
        let engine = unsafe { Engine::without_general(Fake::new(machine), config) }.expect("memory for an engine");
        if self.has_refusals() {
            engine.subscribe(&Unwilling).expect("room for a listener");
            engine.subscribe(&Willing).expect("room for a listener");
        }
        let account = AccountSpec { name: ACCOUNT, limit: usize::MAX, parent: None, over: None };
        // It exists as long as the engine.
        std::mem::forget(engine.create_account(&account).expect("memory for an account"));
        let metadata = engine.meta_used();
        let world = Arc::new(World { engine, books: Mutex::default(), metadata });
        world.perform(&self.before);
        run_on(0);
        let (actors, after) = (self.actors, self.after);
        let stage = world.clone();
        Stage {
            threads: actors.len(),
            act: Arc::new(move |thread| stage.perform(&actors[thread])),
            check: Box::new(move || world.check(after)),
        }
    }
}

impl World {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, actor: &Actor) {
        run_on(actor.cpu);
        let mut hand = Vec::new();
        for (index, op) in actor.ops.iter().enumerate() {
            seat::note(What::Begins(index));
            self.apply(*op, &mut hand);
            seat::note(What::Ends(index));
        }
    }

    fn apply(&self, op: Op, hand: &mut Vec<usize>) {
        let engine = &self.engine;
        match op {
            Op::Create(cache) => self.create(cache),
            Op::Destroy(cache) => self.destroy(cache),
            Op::Alloc(cache) => self.alloc(cache, hand),
            Op::Free(cache) => self.free(cache, hand),
            Op::Shrink(cache) => {
                let Some(known) = self.books().caches[cache] else { return };
                let shrunk = engine.shrink(known.id);
                let mut books = self.books();
                if !(shrunk.is_ok() || shrunk == Err(DestroyError::NoSuchCache) && books.destroys[cache] > 0) {
                    books.complain(19, format!("shrinking \"{}\" returned {shrunk:?}", NAMES[cache]));
                }
            }
            Op::Tune(cache, capacity) => {
                let Some(known) = self.books().caches[cache] else { return };
                let tuned = engine.tune(known.id, capacity);
                let mut books = self.books();
                if !(tuned.is_ok() || tuned == Err(TuneError::NoSuchCache) && books.destroys[cache] > 0) {
                    books.complain(9, format!("tuning \"{}\" returned {tuned:?}", NAMES[cache]));
                }
            }
            Op::Up(cpu) => {
                let done = engine.cpu_up(cpu);
                self.moved(cpu, true, done, HotplugError::AlreadyOnline { cpu });
            }
            Op::Down(cpu) => {
                let done = engine.cpu_down(cpu);
                self.moved(cpu, false, done, HotplugError::AlreadyOffline { cpu });
            }
            Op::UpRefused(cpu) => self.refused(cpu, |cpu| engine.cpu_up(cpu), HotplugError::AlreadyOnline { cpu }),
            Op::DownRefused(cpu) => self.refused(cpu, |cpu| engine.cpu_down(cpu), HotplugError::AlreadyOffline { cpu }),
            Op::UpStarved(cpu) => self.starved(cpu),
            Op::CreateStarved(cache) => {
                // The first call is for the descriptor.
                starve_after(Some(1));
                self.create(cache);
                starve_after(None);
            }
            Op::Left(cpu) => {
                if let Err(error) = engine.cpu_left(cpu)
                    && error != (HotplugError::AlreadyOffline { cpu })
                {
                    self.books().complain(40, format!("leaving CPU {cpu} returned {error:?}"));
                }
            }
            Op::Came(cpu) => match engine.cpu_came(cpu) {
                Ok(()) | Err(HotplugError::AlreadyOnline { .. } | HotplugError::HeldDown { .. }) => {}
                Err(error) => self.books().complain(40, format!("coming back to CPU {cpu} returned {error:?}")),
            },
            Op::Age => _ = engine.age(CpuSet::NONE),
            Op::Trim => {
                if let Err(error) = engine.trim() {
                    self.books().complain(33, format!("trimming returned {error:?}"));
                }
            }
            Op::Look => engine.for_each_cache(|stats| {
                let sane = stats.free <= stats.total && stats.empty_slabs <= stats.slabs;
                if !sane {
                    self.books().complain(6, format!("impossible figures: {stats:?}"));
                }
            }),
            Op::RunOn(cpu) => run_on(cpu),
        }
    }

    fn create(&self, cache: usize) {
        self.books().creates[cache] += 1;
        let created = self.engine.create(&CacheSpec { name: NAMES[cache], size: SIZE, align: 8, ops: None });
        // The lock of the record must not be held here, because the engine lets other threads run.
        let desc = created.ok().and_then(|id| self.engine.descriptor(id));
        if let (Some(desc), Some(account)) = (desc, self.engine.find_account(ACCOUNT)) {
            // SAFETY: only this create knows the cache.
            unsafe { self.engine.charge_to(desc.as_ref(), &account) };
        }
        let mut books = self.books();
        match created {
            Ok(id) => match desc {
                Some(desc) => books.caches[cache] = Some(Known { id, desc }),
                None => books.complain(11, format!("\"{}\" was created and does not exist", NAMES[cache])),
            },
            Err(CreateError::NameTaken) if books.creates[cache] > 1 => {}
            Err(CreateError::NoMemory) if is_starved() => {}
            Err(error) => books.complain(13, format!("creating \"{}\" returned {error:?}", NAMES[cache])),
        }
    }

    fn destroy(&self, cache: usize) {
        let (known, held) = {
            let mut books = self.books();
            let Some(known) = books.caches[cache] else { return };
            books.destroys[cache] += 1;
            (known, books.held_of(cache))
        };
        // SAFETY: threads only use descriptors of caches that the record says exist (I16 is what is tested here).
        let done = unsafe { self.engine.destroy(known.id) };
        let mut books = self.books();
        let held = held.max(books.held_of(cache));
        match done {
            Ok(()) if held == 0 => books.caches[cache] = None,
            Err(DestroyError::Busy { .. }) if held > 0 => {}
            Err(DestroyError::NoSuchCache) if books.destroys[cache] > 1 => {}
            _ => {
                let users = if held == 0 {
                    "users hold no object of it".into()
                } else {
                    format!("users hold {held} objects of it")
                };
                books.complain(16, format!("destroying \"{}\" returned {done:?}, and {users}", NAMES[cache]));
            }
        }
    }

    fn alloc(&self, cache: usize, hand: &mut Vec<usize>) {
        let Some(known) = self.books().caches[cache] else { return };
        // SAFETY: scenarios allocate from a cache only while it exists.
        let object = unsafe { self.engine.alloc(known.desc.as_ref()) };
        let mut books = self.books();
        match object {
            Ok(object) => {
                let object = object.as_ptr() as usize;
                hand.push(object);
                if books.held.insert(object, cache).is_some() {
                    books.complain(7, format!("an object of \"{}\" was handed out twice", NAMES[cache]));
                }
            }
            Err(error) => books.complain(3, format!("an alloc of \"{}\" returned {error:?}", NAMES[cache])),
        }
    }

    fn free(&self, cache: usize, hand: &mut Vec<usize>) {
        let mut books = self.books();
        let Some(known) = books.caches[cache] else { return };
        let Some(object) = hand.pop().and_then(|object| NonNull::new(object as *mut u8)) else { return };
        books.held.remove(&(object.as_ptr() as usize));
        drop(books);
        // SAFETY: the object belonged to this thread, and its cache exists.
        unsafe { self.engine.free(known.desc.as_ref(), object) }
    }

    /// Records a transition that is over. If its CPU was in that state already, it was none.
    fn moved(&self, cpu: usize, up: bool, done: Result<(), HotplugError>, already: HotplugError) {
        let mut books = self.books();
        books.last.insert(cpu, up);
        if done.is_err() && done != Err(already) {
            books.complain(40, format!("taking CPU {cpu} {} returned {done:?}", if up { "up" } else { "down" }));
        }
    }

    /// Attempts a transition that is refused: the CPU stays as it was.
    fn refused(&self, cpu: usize, go: impl Fn(usize) -> Result<(), HotplugError>, already: HotplugError) {
        UNWILLING.set(true);
        let done = go(cpu);
        UNWILLING.set(false);
        if done != Err(HotplugError::Refused { cpu }) && done != Err(already) {
            self.books().complain(22, format!("a transition of CPU {cpu} was refused, and returned {done:?}"));
        }
        if UNASKED.take() {
            let text =
                format!("a listener heard that CPU {cpu} was canceled, and had not been asked whether it may come");
            self.books().complain(23, text);
        }
    }

    /// Attempts to bring a CPU up without memory.
    fn starved(&self, cpu: usize) {
        starve_after(Some(0));
        let done = self.engine.cpu_up(cpu);
        starve_after(None);
        if done != Err(HotplugError::NoMemory { cpu }) && done != Err(HotplugError::AlreadyOnline { cpu }) {
            let text = format!("there was no memory for CPU {cpu} to come up, and cpu_up returned {done:?}");
            self.books().complain(22, text);
        }
    }

    /// Checks what must hold at the end.
    fn check(&self, after: After) -> Result<(), Broken> {
        let broken = |invariant: u8, text: String| Err(Broken { invariant, text });
        let (caches, held, last) = {
            let mut books = self.books();
            if let Some(complaint) = books.complaint.take() {
                return Err(complaint);
            }
            (books.caches, std::mem::take(&mut books.held), std::mem::take(&mut books.last))
        };
        let engine = &self.engine;
        if after == After::UpkeepReaches {
            run_on(0);
            (0..2).for_each(|_| _ = engine.age(CpuSet::NONE));
        }
        // SAFETY: the scenario's threads are done, and no other thread uses the engine.
        let report = match unsafe { engine.validate() } {
            Ok(report) => report,
            Err(violation @ (Violation::Miscounted { .. } | Violation::MiscountedDepot { .. })) => {
                return broken(6, violation.to_string());
            }
            Err(violation @ Violation::Mischarged { .. }) => return broken(45, violation.to_string()),
            Err(violation @ Violation::EnabledOffline { .. }) => return broken(8, violation.to_string()),
            Err(violation @ Violation::OutsideMagazine { .. }) => return broken(9, violation.to_string()),
            Err(violation) => return broken(7, violation.to_string()),
        };
        if report.held != held.len() {
            return broken(6, format!("users hold {} objects, and the engine counts {}", held.len(), report.held));
        }
        if report.stranded > 0 {
            return broken(8, format!("{} objects are stranded in slots of CPUs that are not online", report.stranded));
        }
        if after == After::NothingCached && report.in_slots + report.in_depot > 0 {
            let cached = report.in_slots + report.in_depot;
            return broken(
                14,
                format!("a cache was shrunk that no thread uses, and {cached} objects of it are cached"),
            );
        }
        if after == After::UpkeepReaches && report.in_slots > 0 {
            let text = format!("{} objects lie in slots that no turn of upkeep looks at", report.in_slots);
            return broken(27, text);
        }
        if let Some((cpu, up)) = last.iter().find(|(cpu, up)| engine.online_cpus().contains(**cpu) != **up) {
            return broken(40, format!("CPU {cpu} was taken {} and is not {0}", if *up { "up" } else { "down" }));
        }
        run_on(0);
        for (object, cache) in held {
            if let (Some(known), Some(object)) = (caches[cache], NonNull::new(object as *mut u8)) {
                // SAFETY: no other thread runs, and the object is in use.
                unsafe { engine.free(known.desc.as_ref(), object) };
            }
        }
        for (known, name) in caches.iter().zip(NAMES) {
            // SAFETY: no other thread runs.
            if let Some(Err(error)) = known.map(|known| unsafe { engine.destroy(known.id) }) {
                return broken(
                    16,
                    format!("at the end users hold no object of \"{name}\", and destroying it returns {error:?}"),
                );
            }
        }
        if REFUSED.take() {
            return broken(7, "an object was in two places: a free was refused".into());
        }
        let (listed, pages, metadata) = (engine.cache_count(), engine.page_stats().used, engine.meta_used());
        if (listed, pages, metadata) != (0, 0, self.metadata) {
            let lost = metadata as isize - self.metadata as isize;
            return broken(
                10,
                format!(
                    "every cache was destroyed; {listed} caches, {pages} granules and {lost} bytes of metadata are left"
                ),
            );
        }
        Ok(())
    }
}
