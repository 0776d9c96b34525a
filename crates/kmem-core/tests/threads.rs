//! Threads on virtual CPUs: allocating, freeing for one another, migrating, creating, destroying and taking CPUs down
//! and up, all at once.
//!
//! Every object that is handed out is claimed in a table and carries a pattern, so an object that is handed out twice
//! is noticed at once, by whoever gets it second.

mod common;

use common::counted::{Counted, touch};
use common::{Cache, E, Rng, config, engine_of, fill, is_filled, spec, valid};
use kmem_core::{DestroyError, HotplugError, Population};
use kmem_sim::fake::{self, Machine};
use kmem_sim::tsan_lock::taken;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const THREADS: u64 = 4;
const CPUS: usize = 4;
const SHARDS: usize = 64;

/// Who holds what: object to pattern.
struct Claims {
    shards: [Mutex<HashMap<usize, u8>>; SHARDS],
}

impl Claims {
    fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn shard(&self, object: usize) -> &Mutex<HashMap<usize, u8>> {
        &self.shards[(object >> 4).wrapping_mul(0x9e37_79b9) % SHARDS]
    }

    fn claim(&self, object: usize, size: usize, seed: u8) {
        let before = taken(self.shard(object)).insert(object, seed);
        assert_eq!(before, None, "{object:#x} was handed out twice (I7)");
        fill(object, size, seed);
    }

    fn give_up(&self, object: usize, size: usize) {
        let seed = taken(self.shard(object)).remove(&object).expect("it is held");
        assert!(is_filled(object, size, seed), "somebody else wrote to {object:#x} (I7)");
    }

    fn count(&self) -> usize {
        self.shards.iter().map(|shard| taken(shard).len()).sum()
    }
}

#[derive(Default)]
struct Tally {
    allocs: AtomicUsize,
    destroyed: AtomicUsize,
    busy: AtomicUsize,
    transitions: AtomicUsize,
}

struct World {
    engine: E,
    /// Used by all threads, never destroyed, always busy.
    shared: Vec<(Cache, usize)>,
    constructed: (Cache, &'static Counted),
    claims: Claims,
    /// Objects on their way from one thread to another: index of the cache, object.
    mail: Mutex<Vec<(usize, usize)>>,
    tally: Tally,
    stop: AtomicBool,
}

impl World {
    fn new(population: Population, nodes: usize) -> Arc<Self> {
        let engine = engine_of(Machine { nodes, granules: 2048, ..Machine::with_cpus(CPUS) }, config(population));
        let shared: Vec<_> =
            [16, 64, 200, 1024, 5000].map(|size| (Cache::new(&engine, &format!("shared {size}"), size), size)).into();
        let counted = Counted::new();
        let constructed = (counted.cache(&engine, "constructed", 48), counted);
        let claims = Claims::new();
        for (cache, size) in &shared {
            claims.claim(cache.alloc(), *size, 1);
        }
        Arc::new(Self {
            engine,
            shared,
            constructed,
            claims,
            mail: Mutex::default(),
            tally: Tally::default(),
            stop: AtomicBool::new(false),
        })
    }

    /// Takes CPUs down and up, prepared or not.
    fn transition(&self, rng: &mut Rng) {
        let cpu = rng.below(CPUS);
        let answer = match rng.below(4) {
            0 => self.engine.cpu_down(cpu),
            1 => self.engine.cpu_left(cpu),
            _ => self.engine.cpu_up(cpu),
        };
        match answer {
            Ok(()) => _ = self.tally.transitions.fetch_add(1, Ordering::Relaxed),
            Err(error) => assert!(
                matches!(
                    error,
                    HotplugError::AlreadyOnline { .. }
                        | HotplugError::AlreadyOffline { .. }
                        | HotplugError::LastCpu { .. }
                ),
                "{error}"
            ),
        }
    }

    /// A module of the seed: loads, works, unloads.
    fn module(&self, rng: &mut Rng, name: &str) {
        let size = [24, 100, 700, 3000][rng.below(4)];
        let Ok(cache) = Cache::of(&self.engine, &spec(name, size)) else { panic!("{name} is this thread's name") };
        let mut held = Vec::new();
        for _ in 0..rng.below(4) {
            fake::run_on(rng.below(CPUS));
            let objects = cache.bulk(rng.below(80));
            objects.iter().for_each(|object| self.claims.claim(*object, size, rng.next() as u8));
            held.extend(objects);
        }
        if !held.is_empty() {
            assert_eq!(cache.destroy(), Err(DestroyError::Busy { live: held.len() }), "I16");
            self.tally.busy.fetch_add(1, Ordering::Relaxed);
        }
        fake::run_on(rng.below(CPUS));
        held.iter().for_each(|object| self.claims.give_up(*object, size));
        cache.free_bulk(&held);
        assert_eq!(cache.destroy(), Ok(()), "I16");
        self.tally.destroyed.fetch_add(1, Ordering::Relaxed);
    }

    fn work(&self, me: u64) {
        let mut rng = Rng::new(me);
        let mut held: Vec<(usize, usize)> = Vec::new();
        let mut modules = 0;
        while !self.stop.load(Ordering::Relaxed) {
            match rng.below(100) {
                0..35 => {
                    let which = rng.below(self.shared.len());
                    let (cache, size) = &self.shared[which];
                    let objects = if rng.one_in(6) { cache.bulk(rng.below(150)) } else { vec![cache.alloc()] };
                    for object in objects {
                        self.claims.claim(object, *size, rng.next() as u8);
                        held.push((which, object));
                    }
                    self.tally.allocs.fetch_add(1, Ordering::Relaxed);
                }
                35..70 => {
                    for _ in 0..if rng.one_in(6) { rng.below(150) } else { 1 } {
                        if held.is_empty() {
                            break;
                        }
                        let (which, object) = rng.take(&mut held);
                        self.free(which, object);
                    }
                }
                70..78 => {
                    let mut mail = taken(&self.mail);
                    if rng.one_in(2) {
                        let from = held.len().saturating_sub(20);
                        mail.extend(held.drain(from..));
                    } else {
                        let from = mail.len().saturating_sub(20);
                        held.extend(mail.drain(from..));
                    }
                }
                78..86 => fake::run_on(rng.below(CPUS)),
                86..90 => {
                    let (cache, _) = &self.constructed;
                    let objects = cache.bulk(rng.below(100));
                    objects.iter().for_each(|object| _ = touch(*object));
                    cache.free_bulk(&objects);
                }
                90..93 => {
                    modules += 1;
                    self.module(&mut rng, &format!("module {me} {modules}"));
                }
                93..96 => self.transition(&mut rng),
                96 => _ = self.shared[rng.below(self.shared.len())].0.shrink(),
                97 => {
                    let answer = self.shared[rng.below(self.shared.len())].0.destroy();
                    assert!(matches!(answer, Err(DestroyError::Busy { .. } | DestroyError::NoSuchCache)), "{answer:?}");
                }
                98 if rng.one_in(10) => _ = self.engine.trim().expect("not in a callback"),
                _ => self.engine.for_each_cache(|stats| assert!(!stats.name.is_empty())),
            }
            if held.len() > 3_000 {
                held.drain(2_000..).for_each(|(which, object)| self.free(which, object));
            }
        }
        held.into_iter().for_each(|(which, object)| self.free(which, object));
        assert!(common::holds_no_lock(&self.engine));
    }

    fn free(&self, which: usize, object: usize) {
        let (cache, size) = &self.shared[which];
        self.claims.give_up(object, *size);
        cache.free(object);
    }
}

fn storm(population: Population, nodes: usize, duration: Duration) {
    let world = World::new(population, nodes);
    let threads: Vec<_> = (0..THREADS)
        .map(|me| {
            let world = world.clone();
            std::thread::spawn(move || {
                // Whoever fails stops the others.
                let stop = StopOnPanic(&world.stop);
                world.work(me);
                std::mem::forget(stop);
            })
        })
        .collect();
    let end = Instant::now() + duration;
    while Instant::now() < end && !world.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    world.stop.store(true, Ordering::Relaxed);
    common::ends(move || {
        threads.into_iter().for_each(|thread| thread.join().expect("no thread fails"));
        let mail: Vec<_> = taken(&world.mail).drain(..).collect();
        mail.into_iter().for_each(|(which, object)| world.free(which, object));
        let tally = &world.tally;
        eprintln!(
            "{population:?}, {nodes} nodes: {} allocs, {} destroyed, {} busy, {} transitions",
            tally.allocs.load(Ordering::Relaxed),
            tally.destroyed.load(Ordering::Relaxed),
            tally.busy.load(Ordering::Relaxed),
            tally.transitions.load(Ordering::Relaxed)
        );
        assert!(tally.transitions.load(Ordering::Relaxed) > 10 && tally.destroyed.load(Ordering::Relaxed) > 10);
        // One object of each shared cache is still held.
        assert_eq!(world.claims.count(), world.shared.len());
        valid(&world.engine, world.shared.len());
        let (cache, counted) = &world.constructed;
        cache.destroy().expect("nobody uses it");
        assert_eq!(counted.now(), 0);
        valid(&world.engine, world.shared.len());
    });
}

struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_storm_loses_and_doubles_nothing() {
    for (population, nodes) in [(Population::OnFirstUse, 1), (Population::OnFirstUse, 2), (Population::Eager, 2)] {
        storm(population, nodes, Duration::from_millis(1000));
    }
}
