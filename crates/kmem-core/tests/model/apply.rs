//! One operation, on the engine and on the model.

use std::ptr::NonNull;

use kmem_core::cache::CacheSpec;
use kmem_core::cpu::Event;
use kmem_core::{CreateError, DestroyError, HotplugError};
use kmem_sim::fake;

use super::common::counted::Counted;
use super::common::{Cache, spec};
use super::listening::{granted, refused};
use super::ops::{Meddling, Op, Pick, Shape};
use super::world::{Known, World};

/// Most caches at a time.
pub const MOST_CACHES: usize = 12;

fn address(at: usize) -> NonNull<u8> {
    NonNull::new(at as *mut u8).expect("an address")
}

impl World {
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Create(shape) => _ = self.create(shape),
            Op::Destroy { cache, first_free_all } => self.destroy(cache, first_free_all),
            Op::Alloc { cache, count, seed } => _ = self.alloc(cache, count, seed),
            Op::Free { cache, count, from } => self.free(cache, usize::from(count), from),
            Op::General { size, align_shift, seed } => _ = self.general(size, 1 << align_shift, seed),
            Op::GeneralFree { which } => self.general_free(which),
            Op::Realloc { which, size, seed } => self.realloc(which, size, seed),
            Op::Shrink { cache } => _ = self.cache(cache).map(|known| known.cache.shrink()),
            Op::Trim => _ = self.engine.trim().expect("not in a callback"),
            Op::RunOn { cpu } => fake::run_on(self.cpu(cpu)),
            Op::Believe { cpu } => fake::believe(cpu.map(|cpu| self.cpu(cpu))),
            Op::Up { cpu, refused } => _ = self.up(self.cpu(cpu), refused),
            Op::Down { cpu, hold, refused } => self.down(self.cpu(cpu), hold, refused),
            Op::Fail { n, and_all_later: false } => self.engine.platform().fail_nth(n.into()),
            Op::Fail { n, and_all_later: true } => self.engine.platform().fail_from(n.into()),
            Op::FailNever => self.engine.platform().fail_never(),
            Op::Interrupt(meddling) => self.interrupt(meddling),
            Op::EachFailure(victim) => self.each_failure(victim),
        }
    }

    /// Whether there is one more.
    pub fn create(&mut self, shape: Shape) -> bool {
        if self.caches.len() == MOST_CACHES {
            return false;
        }
        let name = format!("model {}", self.made);
        self.made += 1;
        let counted = shape.constructed.then(Counted::new);
        let spec = CacheSpec { align: shape.align, ops: counted.map(Counted::ops), ..spec(&name, shape.size) };
        match Cache::of(&self.engine, &spec) {
            Ok(cache) => {
                // The name is looked at last, so memory may be out before.
                let again = self.engine.create(&spec);
                assert!(matches!(again, Err(CreateError::NameTaken | CreateError::NoMemory)), "I13: {again:?}");
                self.caches.push(Known::new(cache, shape, counted));
                true
            }
            Err(error) => {
                assert_eq!(error, CreateError::NoMemory);
                false
            }
        }
    }

    pub fn destroy(&mut self, pick: Pick, first_free_all: bool) {
        if first_free_all {
            self.free(pick, usize::MAX, 0);
        }
        let Some(known) = self.cache(pick) else { return };
        let answer = known.cache.destroy();
        let live = known.held.len();
        if live > 0 {
            return assert_eq!(answer, Err(DestroyError::Busy { live }), "I16");
        }
        assert_eq!(answer, Ok(()), "I16");
        let at = usize::from(pick) % self.caches.len();
        let gone = self.caches.swap_remove(at);
        gone.is_gone();
        assert_eq!(gone.cache.destroy(), Err(DestroyError::NoSuchCache), "I20");
    }

    /// Whether all were had.
    pub fn alloc(&mut self, pick: Pick, count: u16, seed: u8) -> bool {
        let Some(known) = self.cache(pick) else { return true };
        let count = usize::from(count).min(200_000 / known.shape.size + 1);
        let objects =
            if count == 1 { known.cache.try_alloc().into_iter().collect() } else { known.cache.try_bulk(count) };
        objects.iter().for_each(|object| known.take(*object, seed));
        objects.len() == count
    }

    pub fn free(&mut self, pick: Pick, count: usize, from: Pick) {
        let Some(known) = self.cache(pick) else { return };
        let held: Vec<usize> = known.held.keys().copied().collect();
        let begin = if held.is_empty() { 0 } else { usize::from(from) % held.len() };
        let some = held.iter().cycle().skip(begin).take(count.min(held.len()));
        let objects: Vec<usize> = some.map(|object| known.give(*object)).collect();
        if let [object] = objects[..] { known.cache.free(object) } else { known.cache.free_bulk(&objects) }
    }

    /// Where it is, if there was memory.
    pub fn general(&mut self, size: usize, align: usize, seed: u8) -> Option<usize> {
        let fresh = self.engine.alloc_bytes(size, align).ok()?;
        let at = fresh.address.as_ptr() as usize;
        assert!(at.is_multiple_of(align), "{at:#x} is not aligned to {align}");
        if fresh.zero {
            // SAFETY: the memory is ours and at least `size` bytes long.
            let bytes = unsafe { std::slice::from_raw_parts(fresh.address.as_ptr(), size) };
            assert!(bytes.iter().all(|byte| *byte == 0), "memory that is said to be zero is not");
        }
        self.take_piece(at, size, seed);
        Some(at)
    }

    pub fn general_free(&mut self, which: Pick) {
        if let Some(at) = self.piece(which) {
            self.free_piece(at);
        }
    }

    pub fn free_piece(&mut self, at: usize) {
        self.give_piece(at);
        // SAFETY: the memory is ours, and the model forgets it.
        unsafe { self.engine.free_bytes(address(at)) }
    }

    /// The content moves along; on an error everything is as it was.
    pub fn realloc(&mut self, which: Pick, size: usize, seed: u8) {
        let Some(at) = self.piece(which) else { return };
        let had = self.give_piece(at);
        // SAFETY: the memory is ours, and the model knows it by its new address only.
        match unsafe { self.engine.realloc_bytes(address(at), size, 16) } {
            Ok(new) => {
                let new = new.as_ptr() as usize;
                let kept = size.min(had.usable);
                assert!(super::common::is_filled(new, kept, had.seed), "realloc to {size} loses content");
                self.take_piece(new, size, seed);
            }
            Err(_) => self.take_piece(at, had.usable, had.seed),
        }
    }

    /// Whether the CPU came up.
    pub fn up(&mut self, cpu: usize, refuse: bool) -> bool {
        let engine = self.engine.clone();
        let (answer, heard) = match &self.ears {
            Some(ears) => ears.hear(refuse, || engine.cpu_up(cpu)),
            None => (engine.cpu_up(cpu), Vec::new()),
        };
        let possible = engine.possible_cpus();
        let refuse = refuse && self.ears.is_some();
        let mut expected = Vec::new();
        match answer {
            Ok(()) => {
                assert!(cpu < possible && !self.online.contains(cpu) && !refuse);
                expected = granted(cpu, Event::UpPrepare, Event::Online);
                self.online.insert(cpu);
                self.held_down.remove(cpu);
            }
            Err(HotplugError::OutOfRange { .. }) => assert!(cpu >= possible),
            Err(HotplugError::AlreadyOnline { .. }) => assert!(self.online.contains(cpu)),
            Err(HotplugError::NoMemory { .. }) => assert!(!self.online.contains(cpu)),
            Err(error) => {
                assert_eq!(error, HotplugError::Refused { cpu });
                assert!(refuse && !self.online.contains(cpu));
                expected = refused(cpu, Event::UpPrepare, Event::UpCanceled);
            }
        }
        assert!(self.ears.is_none() || heard == expected, "{answer:?}: {heard:?}");
        answer.is_ok()
    }

    pub fn down(&mut self, cpu: usize, hold: bool, refuse: bool) {
        let engine = self.engine.clone();
        let go = || if hold { engine.cpu_down(cpu) } else { engine.cpu_left(cpu) };
        let (answer, heard) = match &self.ears {
            Some(ears) => ears.hear(refuse, go),
            None => (go(), Vec::new()),
        };
        let possible = engine.possible_cpus();
        let (expected, events) = match () {
            () if cpu >= possible => (Err(HotplugError::OutOfRange { cpu, possible }), Vec::new()),
            () if !self.online.contains(cpu) => (Err(HotplugError::AlreadyOffline { cpu }), Vec::new()),
            () if self.online.len() == 1 => (Err(HotplugError::LastCpu { cpu }), Vec::new()),
            () if refuse && self.ears.is_some() => {
                (Err(HotplugError::Refused { cpu }), refused(cpu, Event::DownPrepare, Event::DownFailed))
            }
            () => (Ok(()), granted(cpu, Event::DownPrepare, Event::Dead)),
        };
        assert_eq!(answer, expected);
        assert!(self.ears.is_none() || heard == events, "{answer:?}: {heard:?}");
        if answer.is_ok() {
            self.online.remove(cpu);
        }
        // A CPU that is offline already is held down from now on as well.
        if hold && matches!(answer, Ok(()) | Err(HotplugError::AlreadyOffline { .. })) {
            self.held_down.insert(cpu);
        }
    }

    fn interrupt(&mut self, meddling: Meddling) {
        let (engine, left) = (self.engine.clone(), self.left.clone());
        match meddling {
            Meddling::Trim => fake::interrupt_next_section(move || _ = engine.trim().expect("not in a callback")),
            Meddling::Left { cpu } => {
                let cpu = self.cpu(cpu);
                fake::interrupt_next_section(move || {
                    if engine.cpu_left(cpu).is_ok() {
                        left.borrow_mut().push(cpu);
                    }
                });
            }
            Meddling::Shrink { cache } => {
                let Some(id) = self.cache(cache).map(|known| known.cache.id) else { return };
                // The cache may be gone by then.
                fake::interrupt_next_section(move || _ = engine.shrink(id));
            }
            Meddling::Use { cache, count } => {
                let Some(id) = self.cache(cache).map(|known| known.cache.id) else { return };
                fake::interrupt_next_section(move || {
                    let Some(desc) = engine.descriptor(id) else { return };
                    let mut objects = vec![0; usize::from(count)];
                    // SAFETY: the cache lives, for nobody destroys it in here; the objects are ours.
                    unsafe {
                        let got = engine.alloc_bulk(desc.as_ref(), &mut objects);
                        engine.free_bulk(desc.as_ref(), &objects[..got]);
                    }
                });
            }
        }
    }
}
