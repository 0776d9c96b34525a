//! Making the page, and writing it.

use core::ptr::NonNull;

use kmem_core::Engine;
use kmem_core::cpu::{CpuSet, MAX_CPUS};
use kmem_core::pages::GRANULE;
use kmem_core::platform::PageSource;
use kmem_core::sync::{AtomicU64, Ordering, fence};

use super::layout::{LONGEST, MAGIC, VERSION, cpu as row, header};
use super::snapshot::CpuState;
use crate::follow::{Unavailable, UnavailableSet};
use crate::os::descriptors::{self, Fd};
use crate::os::fault::{self, Call};
use crate::os::sys::{self, Errno};
use crate::platform::Linux;
use crate::policy::{CpuPolicy, Upkeep, cpu_policy};

const FILE: &core::ffi::CStr = c"kmem-page";
const _: () = assert!((header::WORDS + MAX_CPUS * row::WORDS) * size_of::<u64>() <= LONGEST);

/// The page of this process, once it has one.
pub(crate) struct StatusPage {
    words: Option<NonNull<AtomicU64>>,
    /// The process that made it. A child that was made without libc's fork does not have it, and does not know.
    owner: usize,
    /// Whether it could not be made: it is not tried again.
    refused: bool,
    /// CPUs whose rows were ever written.
    seen: CpuSet,
}

/// What a turn knows, beside what the engine knows.
pub(crate) struct Turn<'a> {
    pub unavailable: &'a mut UnavailableSet,
    pub allowed: usize,
    pub cpu_budget: usize,
    pub turns: u64,
    pub upkeep: Upkeep,
    pub now: u64,
}

impl StatusPage {
    pub(crate) const fn none() -> Self {
        Self { words: None, owner: 0, refused: false, seen: CpuSet::new() }
    }

    fn len(engine: &Engine<Linux>) -> usize {
        let words = header::WORDS + engine.possible_cpus() * row::WORDS;
        (words * size_of::<u64>()).next_multiple_of(engine.platform().page_size())
    }

    /// Makes the status page, if there is none, and returns its file, which the caller closes or keeps.
    #[cold]
    pub(crate) fn make(&mut self, engine: &Engine<Linux>, unavailable: &mut UnavailableSet) -> Option<Fd> {
        if self.words.is_some() || self.refused {
            return None;
        }
        let len = Self::len(engine);
        let mapped = if fault::refused(Call::Page) { Err(Errno::NOSYS) } else { sealed_file(len) };
        self.refused = mapped.is_err();
        unavailable.set(Unavailable::StatusPage, self.refused);
        let (file, mapping) = mapped.ok()?;
        self.words = Some(mapping.cast());
        self.owner = sys::getpid();
        self.seen = CpuSet::new();
        Some(file)
    }

    /// Makes the status page anew, for a thread that keeps its file open; a mapping that a slow path made goes.
    pub(crate) fn make_and_keep(&mut self, engine: &Engine<Linux>, unavailable: &mut UnavailableSet) {
        if let Some(words) = self.words.take() {
            // SAFETY: the mapping is ours, and only who has the work uses it.
            let _ = unsafe { sys::munmap(words.as_ptr() as usize, Self::len(engine)) };
        }
        self.make(engine, unavailable);
    }

    /// Writes what there is now; makes the status page first, if need be.
    pub(crate) fn write(&mut self, engine: &Engine<Linux>, turn: Turn<'_>) {
        if self.words.is_some() && self.owner != sys::getpid() {
            *self = Self::none();
        }
        if let Some(file) = self.make(engine, turn.unavailable) {
            descriptors::close(file);
        }
        let Some(words) = self.words else { return };
        // SAFETY: the mapping has as many words as the layout says, and lives as long as the process or this.
        let word = |index: usize| unsafe { words.add(index).as_ref() };
        let set = |index: usize, value: u64| word(index).store(value, Ordering::Relaxed);
        let sequence = word(header::SEQUENCE).load(Ordering::Relaxed) | 1;
        set(header::SEQUENCE, sequence);
        fence(Ordering::Release);
        set(header::MAGIC, MAGIC);
        set(header::VERSION, VERSION);
        set(header::PID, sys::getpid() as u64);
        set(header::MODE, engine.platform().mode().code());
        set(header::UPKEEP, upkeep_code(turn.upkeep));
        set(header::POLICY, u64::from(cpu_policy() == CpuPolicy::Fixed));
        set(header::UNAVAILABLE, u64::from(turn.unavailable.bits()));
        set(header::POSSIBLE, engine.possible_cpus() as u64);
        set(header::ALLOWED, turn.allowed as u64);
        set(header::CPU_BUDGET, turn.cpu_budget as u64);
        set(header::UPDATED, turn.now);
        set(header::TURNS, turn.turns);
        set(header::SLABS, engine.slab_bytes() as u64);
        let pages = engine.page_stats();
        set(header::USED, (pages.used * GRANULE) as u64);
        set(header::IDLE, (pages.dirty * GRANULE) as u64);
        set(header::CPUS, header::WORDS as u64);
        set(header::CPU_COUNT, engine.possible_cpus() as u64);
        set(header::CPU_WORDS, row::WORDS as u64);
        self.write_cpus(engine, word);
        word(header::SEQUENCE).store(sequence + 1, Ordering::Release);
    }

    /// Rows of CPUs that were never used here are left alone: their memory is not touched.
    fn write_cpus<'a>(&mut self, engine: &Engine<Linux>, word: impl Fn(usize) -> &'a AtomicU64) {
        engine.online_cpus().iter().for_each(|cpu| self.seen.insert(cpu));
        for cpu in self.seen.iter() {
            let at = header::WORDS + cpu * row::WORDS;
            let Some(stats) = engine.cpu_stats(cpu) else { continue };
            word(at + row::STATE).store(CpuState::of(cpu, &stats).code(), Ordering::Relaxed);
            word(at + row::BYTES).store(0, Ordering::Relaxed);
            word(at + row::OBJECTS).store(0, Ordering::Relaxed);
            word(at + row::DRAINED).store(stats.drained as u64, Ordering::Relaxed);
        }
        engine.for_each_slot(|cache, cpu, objects| {
            if self.seen.contains(cpu) {
                let at = header::WORDS + cpu * row::WORDS;
                let bytes = (objects * cache.layout().size) as u64;
                word(at + row::BYTES).fetch_add(bytes, Ordering::Relaxed);
                word(at + row::OBJECTS).fetch_add(objects as u64, Ordering::Relaxed);
            }
        });
    }
}

/// A file that can be neither truncated nor written to from now on, and its mapping, through which we write.
#[cold]
fn sealed_file(len: usize) -> Result<(Fd, NonNull<u8>), Errno> {
    let file = descriptors::memory_file(FILE, len)?;
    match descriptors::map_shared(file, len) {
        Ok(mapping) => {
            descriptors::seal(file);
            Ok((file, mapping))
        }
        Err(error) => {
            descriptors::close(file);
            Err(error)
        }
    }
}

fn upkeep_code(upkeep: Upkeep) -> u64 {
    match upkeep {
        Upkeep::Off => 0,
        Upkeep::Thread => 1,
        Upkeep::SlowPaths => 2,
    }
}
