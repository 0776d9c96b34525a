//! A storm: threads that do anything, anywhere, any time.
//!
//! A cache is used by who holds its place for reading, and taken down by who holds it for writing, as an owner would:
//! that nobody is inside alloc or free of a cache that is destroyed is the user's part of the contract. Two destroys go
//! without: one by a user who holds an object, so the answer is Busy, beside all other users; and one that is told
//! nothing but an id, which may be out of date. Shrink, statistics, trim and transitions go by id, and ask nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmem_core::cache::CacheId;
use kmem_core::cpu::{CpuSet, Event, Refused};
use kmem_core::{CreateError, DestroyError, HotplugError, Population, TuneError};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::RwLock;

use crate::checked::cache::{ALONE, EIGHT, nothing_left, valid};
use crate::checked::platform::{believe, migrate};
use crate::checked::{Cache, E, Machine, engine, join, listen, on};
use crate::runs::is_short;

const NAMES: [&str; 4] = ["inode", "dentry", "request", "page"];
const SIZES: [usize; 4] = [EIGHT, 2048, ALONE, 48];

/// What a storm is like.
pub struct Weather {
    pub cpus: usize,
    pub caches: usize,
    pub threads: usize,
    /// Operations of each thread.
    pub operations: usize,
    pub population: Population,
    pub memory_fails: bool,
    pub listener_refuses: bool,
}

fn one_in(n: usize) -> bool {
    below(n) == 0
}

fn below(n: usize) -> usize {
    thread_rng().gen_range(0..n)
}

impl Weather {
    /// Any, at random; to be asked for inside of a storm.
    pub fn any() -> Self {
        Self {
            cpus: 2 + below(3),
            caches: 2 + below(3),
            threads: 3 + below(2),
            operations: 10,
            population: if one_in(2) { Population::Eager } else { Population::OnFirstUse },
            memory_fails: one_in(3),
            listener_refuses: one_in(3),
        }
    }
}

/// What happened in storms, so that a run can say that it was one.
#[derive(Clone, Copy, Debug)]
enum Met {
    Allocated,
    NoMemory,
    Created,
    NameTaken,
    Destroyed,
    Busy,
    BusyBesideUsers,
    Up,
    Down,
    Refused,
    LastCpu,
    Tuned,
}

static MET: [AtomicUsize; Met::Tuned as usize + 1] = [const { AtomicUsize::new(0) }; Met::Tuned as usize + 1];

fn met(what: Met) {
    MET[what as usize].fetch_add(1, Relaxed);
}

/// Says how often what happened, and fails where something never did in a run of full length.
pub fn tally() {
    use Met::*;
    let all =
        [Allocated, NoMemory, Created, NameTaken, Destroyed, Busy, BusyBesideUsers, Up, Down, Refused, LastCpu, Tuned];
    let counts = all.map(|what| (what, MET[what as usize].load(Relaxed)));
    println!("all storms so far: {counts:?}");
    assert!(is_short() || counts.iter().all(|(_, count)| *count > 0), "something never happened");
}

/// The places of caches, by name.
struct Places {
    engine: E,
    places: Vec<RwLock<Option<Cache>>>,
    memory_fails: bool,
}

/// A thread of the storm, with the objects that it holds.
struct Thread {
    places: Arc<Places>,
    held: Vec<(usize, usize)>,
}

/// Raises a storm, and looks at what it left.
pub fn storm(weather: &Weather) {
    let online: Vec<_> = (0..weather.cpus).filter(|cpu| *cpu == 0 || one_in(2)).collect();
    let engine = engine(Machine::new(weather.cpus, &online).with_granules(40), weather.population);
    if weather.listener_refuses {
        refuse_now_and_then(&engine);
    }
    let places = (0..weather.caches).map(|_| RwLock::new(None)).collect();
    let places = Arc::new(Places { engine: engine.clone(), places, memory_fails: weather.memory_fails });
    let threads: Vec<_> = (0..weather.threads)
        .map(|_| {
            let (mut thread, operations) = (Thread { places: places.clone(), held: Vec::new() }, weather.operations);
            on(&engine, below(weather.cpus), move || {
                (0..operations).for_each(|_| thread.anything());
                thread.held
            })
        })
        .collect();
    let held: Vec<_> = threads.into_iter().flat_map(join).collect();
    engine.platform().fail_never();
    valid(&engine, held.len());
    let cache = |place: usize| places.places[place].read().expect("no thread panicked").clone();
    held.into_iter().for_each(|(place, object)| cache(place).expect("a cache of which an object is held").free(object));
    valid(&engine, 0);
    (0..weather.caches).filter_map(cache).for_each(|cache| cache.destroy().expect("nobody holds an object"));
    nothing_left(&engine);
}

fn tune(engine: &E, id: CacheId) {
    match engine.tune(id, [1, 2, 8, 30][below(4)]) {
        Ok(()) => met(Met::Tuned),
        // Of the largest objects a magazine holds one.
        Err(TuneError::CapacityOutOfRange { max: 1, .. } | TuneError::NoSuchCache) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A listener that refuses one event in four, and tries what it must not (I33).
fn refuse_now_and_then(engine: &E) {
    let weak = Arc::downgrade(engine);
    listen(engine, move |event, cpu| {
        let engine = weak.upgrade().expect("the engine calls");
        assert_eq!(engine.cpu_up(cpu), Err(HotplugError::InsideCallback));
        // SAFETY: refused before it looks at anything.
        assert_eq!(unsafe { engine.validate() }.err(), Some(kmem_core::validate::Violation::InsideCallback));
        match event {
            Event::UpPrepare | Event::DownPrepare if one_in(4) => Err(Refused),
            _ => Ok(()),
        }
    });
}

impl Thread {
    fn engine(&self) -> &E {
        &self.places.engine
    }

    fn anything(&mut self) {
        let place = below(self.places.places.len());
        let cpu = below(self.engine().possible_cpus());
        match below(20) {
            0..=4 => self.with(place, |cache, held| match cache.try_alloc() {
                Ok(object) => {
                    met(Met::Allocated);
                    held.push((place, object));
                }
                Err(_) => met(Met::NoMemory),
            }),
            5 => self.with(place, |cache, held| {
                held.extend(cache.alloc_bulk(1 + below(12)).into_iter().map(|object| (place, object)))
            }),
            6..=8 => self.free_one(),
            9 => self.free_all(place),
            10 => self.create(place),
            11 => self.destroy(place),
            12 => self.destroy_busy(place),
            13 => self.with_id(place, |engine, id| _ = engine.shrink(id)),
            14 => self.transition(cpu),
            15 => self.transition(cpu),
            16 if one_in(2) => _ = self.engine().trim(),
            16 if one_in(2) => _ = self.engine().age(&CpuSet::new()),
            16 => _ = self.engine().decay(),
            17 if one_in(2) => self.with_id(place, tune),
            17 => self.engine().for_each_cache(|stats| {
                assert!(NAMES.contains(&stats.name));
                assert!(stats.free <= stats.total);
            }),
            18 => migrate(cpu),
            _ if self.places.memory_fails => self.engine().platform().fail_nth(below(3)),
            // One more than there are, which no CPU may have (I5).
            _ => believe(cpu + below(2)),
        }
    }

    /// Uses a cache, if there is one.
    fn with(&mut self, place: usize, code: impl FnOnce(&Cache, &mut Vec<(usize, usize)>)) {
        let guard = self.places.places[place].read().expect("no thread panics");
        if let Some(cache) = guard.as_ref() {
            code(cache, &mut self.held);
        }
    }

    /// Uses a cache by its id, which may be out of date by then.
    fn with_id(&self, place: usize, code: impl FnOnce(&E, CacheId)) {
        let id = self.places.places[place].read().expect("no thread panics").as_ref().map(|cache| cache.id);
        if let Some(id) = id {
            code(self.engine(), id);
        }
    }

    fn free_one(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (place, object) = self.held.swap_remove(below(self.held.len()));
        self.with(place, |cache, _| cache.free(object));
    }

    fn free_all(&mut self, place: usize) {
        let objects: Vec<_> = self.held.iter().filter(|(at, _)| *at == place).map(|(_, object)| *object).collect();
        self.held.retain(|(at, _)| *at != place);
        self.with(place, |cache, _| cache.free_bulk(&objects));
    }

    /// Of two who create the same, one wins (I13); the one who is late does not get a place.
    fn create(&self, place: usize) {
        match Cache::create(self.engine(), NAMES[place], SIZES[place]) {
            Ok(cache) => {
                met(Met::Created);
                let mut at = self.places.places[place].write().expect("no thread panics");
                assert!(at.is_none(), "two caches of one name (I13)");
                *at = Some(cache);
            }
            Err(CreateError::NameTaken) => met(Met::NameTaken),
            Err(CreateError::NoMemory) => assert!(self.places.memory_fails),
            // A cache that is destroyed loses its name before its place in the table.
            Err(CreateError::TooManyCaches { max }) => assert_eq!(self.places.places.len(), max),
            Err(error) => panic!("{error}"),
        }
    }

    /// Takes a cache down, as its owner: Busy if and only if somebody holds an object (I16), and then it goes on as
    /// before (I17).
    fn destroy(&self, place: usize) {
        let mut at = self.places.places[place].write().expect("no thread panics");
        let Some(cache) = at.as_ref() else { return };
        match (cache.destroy(), cache.books.held()) {
            (Ok(()), 0) => {
                met(Met::Destroyed);
                *at = None;
            }
            (Err(DestroyError::Busy { live }), held) if held > 0 => {
                met(Met::Busy);
                assert_eq!(live, held);
            }
            (result, held) => panic!("{result:?} with {held} objects held"),
        }
    }

    /// Tries to take a cache down of which this thread holds an object, while others use it.
    fn destroy_busy(&mut self, place: usize) {
        if self.held.iter().any(|(at, _)| *at == place) {
            self.with(place, |cache, _| match cache.destroy() {
                Err(DestroyError::Busy { live: 1.. }) => met(Met::BusyBesideUsers),
                // Somebody else tries the same.
                Err(DestroyError::NoSuchCache) => {}
                result => panic!("{result:?} with an object held"),
            });
        }
    }

    fn transition(&self, cpu: usize) {
        let (result, done) = match below(3) {
            0 => (self.engine().cpu_up(cpu), Met::Up),
            1 => (self.engine().cpu_down(cpu), Met::Down),
            _ if one_in(2) => (self.engine().cpu_left(cpu), Met::Down),
            _ if one_in(2) => (self.engine().cpu_came(cpu), Met::Up),
            _ => {
                self.engine().try_cpu_left(cpu);
                return;
            }
        };
        match result {
            Ok(()) => met(done),
            Err(HotplugError::Refused { .. }) => met(Met::Refused),
            Err(HotplugError::LastCpu { .. }) => met(Met::LastCpu),
            Err(HotplugError::NoMemory { .. }) => assert!(self.places.memory_fails),
            Err(HotplugError::InsideCallback | HotplugError::OutOfRange { .. }) => panic!("{result:?}"),
            _ => {}
        }
    }
}
