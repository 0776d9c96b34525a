//! Random operations on a whole engine against a reference model (I6, I7, I16, I17): several caches, CPUs and nodes,
//! both populations, failures of memory.
//!
//! A list of operations is a list of numbers, so every part of one is a list too: one that fails is shortened before it
//! is shown.

mod common;

use common::{Cache, E, Rng, config, engine_of, fill, is_filled, spec, valid};
use kmem_core::cpu::CpuSet;
use kmem_core::{CreateError, DestroyError, HotplugError, Population};
use kmem_sim::fake::{self, Machine};
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// An operation and three numbers to choose by.
type Op = (u8, [u32; 3]);

const SIZES: [usize; 8] = [8, 16, 40, 64, 256, 1500, 9000, 70_000];

struct CacheModel {
    cache: Cache,
    size: usize,
    /// What the user holds, and the pattern in it.
    held: BTreeMap<usize, u8>,
}

struct Model {
    engine: E,
    caches: Vec<CacheModel>,
    /// General memory: size and pattern.
    general: BTreeMap<usize, (usize, u8)>,
    online: CpuSet,
    held_down: CpuSet,
    cpu: usize,
    made: usize,
}

impl Model {
    fn new(machine: Machine, population: Population) -> Self {
        let engine = engine_of(machine, config(population));
        fake::run_on(0);
        let online = engine.online_cpus();
        Self { engine, caches: Vec::new(), general: BTreeMap::new(), online, held_down: CpuSet::new(), cpu: 0, made: 0 }
    }

    fn held(&self) -> usize {
        // Large runs are no objects.
        let small = self.general.values().filter(|(size, _)| *size <= kmem_core::classes::LARGEST).count();
        self.caches.iter().map(|cache| cache.held.len()).sum::<usize>() + small
    }

    fn apply(&mut self, (op, [a, b, c]): Op) {
        let (a, b, c) = (a as usize, b as usize, c as usize);
        match op {
            0..30 => self.alloc(a, 1, c as u8),
            30..60 => self.free(a, 1, b),
            60..70 => self.alloc(a, b % 300, c as u8),
            70..80 => self.free(a, b % 400, c),
            80..100 => self.run_on(a),
            100..110 => self.create(a),
            110..118 => self.destroy(a, false),
            118..122 => self.destroy(a, true),
            122..128 => _ = self.with_cache(a, |model| model.cache.shrink()),
            128..130 => _ = self.engine.trim().expect("not in a callback"),
            130..142 => self.down(a, b.is_multiple_of(2)),
            142..156 => self.up(a),
            156..180 => self.general_alloc(a, c as u8),
            180..204 => self.general_free(a),
            204..212 => self.engine.platform().fail_nth(a % 4),
            212..216 => self.engine.platform().fail_from(a % 3),
            216..240 => self.engine.platform().fail_never(),
            _ => self.check(),
        }
        self.follow_adoptions();
    }

    fn with_cache<R>(&mut self, a: usize, act: impl FnOnce(&mut CacheModel) -> R) -> Option<R> {
        let count = self.caches.len();
        (count > 0).then(|| act(&mut self.caches[a % count]))
    }

    fn alloc(&mut self, a: usize, n: usize, seed: u8) {
        self.with_cache(a, |model| {
            let n = if model.size > 5000 { n.min(20) } else { n };
            let objects = if n == 1 { model.cache.try_alloc().into_iter().collect() } else { model.cache.try_bulk(n) };
            for object in objects {
                fill(object, model.size, seed);
                assert_eq!(model.held.insert(object, seed), None, "{object:#x} was handed out twice");
            }
        });
    }

    fn free(&mut self, a: usize, n: usize, b: usize) {
        self.with_cache(a, |model| {
            let mut objects = Vec::new();
            for _ in 0..n.min(model.held.len()) {
                let at = *model.held.keys().nth(b % model.held.len()).expect("one of them");
                let seed = model.held.remove(&at).expect("it is held");
                assert!(is_filled(at, model.size, seed), "somebody else wrote to {at:#x}");
                objects.push(at);
            }
            if let [object] = objects[..] { model.cache.free(object) } else { model.cache.free_bulk(&objects) }
        });
    }

    fn run_on(&mut self, a: usize) {
        // One past the end now and then.
        self.cpu = a % (self.engine.possible_cpus() + 1);
        fake::run_on(self.cpu);
    }

    fn create(&mut self, a: usize) {
        if self.caches.len() == 12 {
            return;
        }
        let name = format!("model {}", self.made);
        self.made += 1;
        let size = SIZES[a % SIZES.len()];
        match Cache::of(&self.engine, &spec(&name, size)) {
            Ok(cache) => {
                // The name is looked at last, so memory may be out before.
                let again = self.engine.create(&spec(&name, size));
                assert!(matches!(again, Err(CreateError::NameTaken | CreateError::NoMemory)), "{again:?}");
                self.caches.push(CacheModel { cache, size, held: BTreeMap::new() });
            }
            Err(error) => assert_eq!(error, CreateError::NoMemory),
        }
    }

    fn destroy(&mut self, a: usize, first_free: bool) {
        if first_free {
            self.free(a, usize::MAX, 0);
        }
        let Some((live, answer)) = self.with_cache(a, |model| (model.held.len(), model.cache.destroy())) else {
            return;
        };
        if live == 0 {
            assert_eq!(answer, Ok(()), "I16");
            let at = a % self.caches.len();
            let gone = self.caches.swap_remove(at);
            assert_eq!(gone.cache.destroy(), Err(DestroyError::NoSuchCache), "I20");
        } else {
            assert_eq!(answer, Err(DestroyError::Busy { live }), "I16");
        }
    }

    fn down(&mut self, a: usize, hold: bool) {
        let possible = self.engine.possible_cpus();
        let cpu = a % (possible + 1);
        let answer = if hold { self.engine.cpu_down(cpu) } else { self.engine.cpu_left(cpu) };
        let expected = match () {
            () if cpu >= possible => Err(HotplugError::OutOfRange { cpu, possible }),
            () if !self.online.contains(cpu) => Err(HotplugError::AlreadyOffline { cpu }),
            () if self.online.len() == 1 => Err(HotplugError::LastCpu { cpu }),
            () => Ok(()),
        };
        assert_eq!(answer, expected);
        if answer.is_ok() {
            self.online.remove(cpu);
            if hold {
                self.held_down.insert(cpu);
            }
        }
    }

    fn up(&mut self, a: usize) {
        let possible = self.engine.possible_cpus();
        let cpu = a % (possible + 1);
        match self.engine.cpu_up(cpu) {
            Ok(()) => {
                assert!(!self.online.contains(cpu));
                self.online.insert(cpu);
                self.held_down.remove(cpu);
            }
            Err(HotplugError::NoMemory { .. }) => assert!(!self.online.contains(cpu)),
            Err(HotplugError::AlreadyOnline { .. }) => assert!(self.online.contains(cpu)),
            Err(error) => assert_eq!(error, HotplugError::OutOfRange { cpu: possible, possible }),
        }
    }

    fn general_alloc(&mut self, a: usize, seed: u8) {
        let (size, align) = ((a % 40_000) >> (a % 11), 1 << (a % 13));
        let Ok(fresh) = self.engine.alloc_bytes(size, align) else { return };
        let address = fresh.address.as_ptr() as usize;
        assert!(address.is_multiple_of(align));
        fill(address, size, seed);
        let usable = self.engine.usable_size(address);
        assert!(usable >= size);
        assert_eq!(self.general.insert(address, (usable, seed)), None, "{address:#x} was handed out twice");
        fill(address, usable, seed);
    }

    fn general_free(&mut self, a: usize) {
        if self.general.is_empty() {
            return;
        }
        let at = *self.general.keys().nth(a % self.general.len()).expect("one of them");
        let (size, seed) = self.general.remove(&at).expect("it is held");
        assert!(is_filled(at, size, seed), "somebody else wrote to {at:#x}");
        // SAFETY: the memory is ours.
        unsafe { self.engine.free_bytes(NonNull::new(at as *mut u8).expect("an address")) }
    }

    /// A CPU comes up by itself only where a thread runs, and never one that was taken down by name; none goes by
    /// itself.
    fn follow_adoptions(&mut self) {
        let now = self.engine.online_cpus();
        for cpu in 0..self.engine.possible_cpus() {
            if now.contains(cpu) != self.online.contains(cpu) {
                assert!(now.contains(cpu), "CPU {cpu} went by itself");
                assert!(!self.held_down.contains(cpu), "CPU {cpu} was taken down and came back by itself");
                self.online.insert(cpu);
            }
        }
    }

    fn check(&mut self) {
        let report = valid(&self.engine, self.held());
        assert_eq!(report.caches, kmem_core::classes::CLASSES + self.caches.len());
        for model in &self.caches {
            let figures = model.cache.figures();
            assert_eq!(figures.live, model.held.len());
            assert_eq!(figures.live + figures.free + figures.in_slots + figures.in_depot, figures.total, "I6");
            assert!(figures.cpus <= self.online.len());
        }
    }

    /// Gives everything back, and nothing is left.
    fn finish(mut self) {
        self.engine.platform().fail_never();
        self.check();
        while !self.caches.is_empty() {
            self.destroy(0, true);
        }
        while !self.general.is_empty() {
            self.general_free(0);
        }
        self.engine.trim().expect("not in a callback");
        self.check();
        let pages = self.engine.page_stats();
        assert_eq!((pages.used, pages.dirty), (0, 0), "I10");
    }
}

fn run(machine: &Machine, population: Population, ops: &[Op]) {
    let mut model = Model::new(machine.clone(), population);
    ops.iter().for_each(|op| model.apply(*op));
    model.finish();
}

fn fails(machine: &Machine, population: Population, ops: &[Op]) -> bool {
    std::panic::catch_unwind(|| run(machine, population, ops)).is_err()
}

/// Leaves out what is not needed to make it fail.
fn shortened(machine: &Machine, population: Population, mut ops: Vec<Op>) -> Vec<Op> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut part = ops.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + part).min(ops.len()));
            if fails(machine, population, &fewer) { ops = fewer } else { at += part }
        }
        part /= 2;
    }
    std::panic::set_hook(hook);
    ops
}

fn random_lists(machine: &Machine, lists: u64, length: usize) {
    for population in [Population::OnFirstUse, Population::Eager] {
        for seed in 0..lists {
            let mut rng = Rng::new(seed);
            let ops: Vec<Op> = (0..length).map(|_| (rng.next() as u8, [(); 3].map(|()| rng.next() as u32))).collect();
            if fails(machine, population, &ops) {
                let ops = shortened(machine, population, ops);
                eprintln!("{machine:?} {population:?} seed {seed}, in short:");
                ops.iter().for_each(|op| eprintln!("    {op:?},"));
                run(machine, population, &ops);
            }
        }
    }
}

#[test]
fn a_small_machine() {
    random_lists(&Machine::with_cpus(2), 8, 1200);
}

#[test]
fn one_cpu() {
    random_lists(&Machine::with_cpus(1), 4, 1200);
}

#[test]
fn holes_in_the_numbers_and_three_nodes() {
    let online = [0, 2, 5, 9].into_iter().collect();
    random_lists(&Machine { possible: 11, online, nodes: 3, ..Machine::with_cpus(11) }, 6, 1200);
}

#[test]
fn a_hint_that_lies() {
    random_lists(&Machine { hint_lies: true, nodes: 2, ..Machine::with_cpus(4) }, 6, 1200);
}

#[test]
fn little_memory() {
    random_lists(&Machine { granules: 90, nodes: 2, ..Machine::with_cpus(3) }, 6, 1200);
}

#[test]
fn many_cpus() {
    random_lists(&Machine { nodes: 4, granules: 4096, ..Machine::with_cpus(1024) }, 1, 600);
}
