//! The reference model beside the engine: what must be true of it at any moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kmem_core::classes::LARGEST;
use kmem_core::cpu::CpuSet;
use kmem_sim::fake;

use super::common::counted::{Counted, touch};
use super::common::{Cache, E, config, engine_of, fill, is_filled, valid};
use super::listening::Ears;
use super::ops::{Case, Op, Pick, Shape};

/// Bytes at the beginning of a constructed object that belong to the books.
const BOOKS: usize = 16;

/// A cache, and what its user has of it.
pub struct Known {
    pub cache: Cache,
    pub shape: Shape,
    counted: Option<&'static Counted>,
    /// The objects, and the pattern in each.
    pub held: BTreeMap<usize, u8>,
}

impl Known {
    pub fn new(cache: Cache, shape: Shape, counted: Option<&'static Counted>) -> Self {
        Self { cache, shape, counted, held: BTreeMap::new() }
    }

    /// The bytes of an object that are its user's.
    fn body(&self, object: usize) -> (usize, usize) {
        let books = if self.counted.is_some() { BOOKS } else { 0 };
        (object + books, self.shape.size - books)
    }

    /// An object was handed out.
    pub fn take(&mut self, object: usize, seed: u8) {
        assert!(object.is_multiple_of(self.shape.align), "{object:#x} is not aligned to {}", self.shape.align);
        if self.counted.is_some() {
            touch(object);
        }
        assert_eq!(self.held.insert(object, seed), None, "{object:#x} was handed out twice");
        let (at, len) = self.body(object);
        fill(at, len, seed);
    }

    /// An object is about to go back: it is as its user left it.
    pub fn give(&mut self, object: usize) -> usize {
        let seed = self.held.remove(&object).expect("it is held");
        let (at, len) = self.body(object);
        assert!(is_filled(at, len, seed), "somebody else wrote to {object:#x}");
        object
    }

    /// The cache is gone: so are its objects.
    pub fn is_gone(&self) {
        if let Some(counted) = self.counted {
            assert_eq!(counted.now(), 0, "a destroyed cache leaves constructed objects");
        }
    }

    fn check(&self, online: usize) {
        let figures = self.cache.figures();
        assert_eq!(figures.live, self.held.len());
        assert_eq!(figures.live + figures.free + figures.in_slots + figures.in_depot, figures.total, "I6");
        assert!(figures.cpus <= online, "slots of {} CPUs, {online} are online", figures.cpus);
        if let Some(counted) = self.counted {
            let out = figures.live + figures.in_slots + figures.in_depot;
            assert!((out..=figures.total).contains(&counted.now()), "{} of {figures:?} constructed", counted.now());
        }
    }
}

/// General memory that a user has.
#[derive(Clone, Copy)]
pub struct Piece {
    pub usable: usize,
    pub seed: u8,
}

/// The engine and the model.
pub struct World {
    pub engine: E,
    pub caches: Vec<Known>,
    pub general: BTreeMap<usize, Piece>,
    pub online: CpuSet,
    /// CPUs that come up by name only.
    pub held_down: CpuSet,
    /// CPUs that left in the middle of somebody's section.
    pub left: Rc<RefCell<Vec<usize>>>,
    pub ears: Option<Ears>,
    pub made: usize,
}

/// Runs a case.
pub fn run(case: &Case) {
    let mut world = World::new(case);
    for op in &case.ops {
        world.apply(*op);
        world.check();
    }
    world.finish();
}

impl World {
    pub fn new(case: &Case) -> Self {
        fake::run_on(0);
        fake::believe(None);
        // What the last case left, if it failed.
        fake::interrupt_next_section(|| ());
        let engine = engine_of(case.machine.clone(), config(case.population));
        let ears = case.listened.then(|| Ears::of(&engine));
        let online = engine.online_cpus();
        Self {
            engine,
            caches: Vec::new(),
            general: BTreeMap::new(),
            online,
            held_down: CpuSet::new(),
            left: Rc::default(),
            ears,
            made: 0,
        }
    }

    /// The cache that a number means, if there is one.
    pub fn cache(&mut self, pick: Pick) -> Option<&mut Known> {
        let count = self.caches.len();
        (count > 0).then(|| &mut self.caches[usize::from(pick) % count])
    }

    /// The piece that a number means, if there is one.
    pub fn piece(&self, pick: Pick) -> Option<usize> {
        let count = self.general.len();
        (count > 0).then(|| *self.general.keys().nth(usize::from(pick) % count).expect("one of them"))
    }

    /// The CPU that a number means: any that is possible, or the first that is not.
    pub fn cpu(&self, pick: Pick) -> usize {
        usize::from(pick) % (self.engine.possible_cpus() + 1)
    }

    /// General memory was handed out, or kept as it was; all of it is its user's.
    pub fn take_piece(&mut self, address: usize, size: usize, seed: u8) {
        let usable = self.engine.usable_size(address);
        assert!(usable >= size, "{size} bytes were asked for, {usable} are usable");
        assert!(self.general.insert(address, Piece { usable, seed }).is_none(), "{address:#x} was handed out twice");
        fill(address, usable, seed);
    }

    /// General memory is about to go back, or to move: it is as its user left it.
    pub fn give_piece(&mut self, address: usize) -> Piece {
        let piece = self.general.remove(&address).expect("it is held");
        assert!(is_filled(address, piece.usable, piece.seed), "somebody else wrote to {address:#x}");
        piece
    }

    /// Objects that users hold; large runs are none.
    fn held(&self) -> usize {
        let small = self.general.values().filter(|piece| piece.usable <= LARGEST).count();
        self.caches.iter().map(|cache| cache.held.len()).sum::<usize>() + small
    }

    /// Follows the CPUs that came up by themselves: only where nobody listens, and never one that is held down. None
    /// goes by itself.
    pub fn follow(&mut self) {
        for cpu in self.left.take() {
            self.online.remove(cpu);
        }
        let now = self.engine.online_cpus();
        for cpu in 0..self.engine.possible_cpus() {
            if now.contains(cpu) != self.online.contains(cpu) {
                assert!(now.contains(cpu), "CPU {cpu} went by itself");
                assert!(self.ears.is_none(), "CPU {cpu} came by itself although somebody listens");
                assert!(!self.held_down.contains(cpu), "CPU {cpu} was taken down and came back by itself");
                self.online.insert(cpu);
            }
        }
    }

    /// The engine agrees.
    pub fn check(&mut self) {
        self.follow();
        let report = valid(&self.engine, self.held());
        assert_eq!(report.caches, self.engine.cache_count());
        let mut named = 0;
        self.engine.for_each_cache(|stats| named += usize::from(!stats.name.starts_with("kmalloc-")));
        assert_eq!(named, self.caches.len());
        assert_eq!(self.engine.online_cpus(), self.online);
        self.caches.iter().for_each(|cache| cache.check(self.online.len()));
    }

    /// Gives everything back, and nothing is left (I10).
    pub fn finish(mut self) {
        self.apply(Op::FailNever);
        while !self.caches.is_empty() {
            self.apply(Op::Destroy { cache: 0, first_free_all: true });
        }
        while !self.general.is_empty() {
            self.apply(Op::GeneralFree { which: 0 });
        }
        // A CPU that has its slots costs the same as before it went (I26).
        self.apply(Op::Trim);
        self.check();
        let pages = self.engine.page_stats();
        assert_eq!((pages.used, pages.dirty), (0, 0), "I10");
        fake::interrupt_next_section(|| ());
    }
}
