//! Making the page, and writing it.

use core::ptr::NonNull;

use kmem_core::Engine;
use kmem_core::cache::CacheId;
use kmem_core::cpu::{CpuSet, MAX_CPUS};
use kmem_core::pages::{GRANULE, LARGE_SIZES};
use kmem_core::platform::{Clock, PageSource};
use kmem_core::stats::CacheStats;
use kmem_core::sync::{AtomicU64, Ordering, fence};

use super::caches::{figures, name_words};
use super::layout::{LONGEST, MAGIC, VERSION, cache as cache_row, cpu as row, header, large as large_row};
use super::snapshot::CpuState;
use crate::follow::{Unavailable, UnavailableSet, is_gone};
use crate::os::descriptors::{self, Fd};
use crate::os::fault::{self, Call};
use crate::os::sys::{self, Errno};
use crate::platform::Linux;
use crate::policy::{CpuPolicy, Upkeep, cpu_policy};

const FILE: &core::ffi::CStr = c"kmem-page";
const _: () =
    assert!((header::WORDS + MAX_CPUS * row::WORDS + FIRST_ROWS * cache_row::WORDS) * size_of::<u64>() <= LONGEST);

/// Rows of the first page's table of caches: those of the general caches, and some of the program's.
const FIRST_ROWS: usize = 256;
const CPU_ROWS: usize = header::WORDS;
/// For how long the walk of large objects is not repeated, by how long it took.
const REST: u64 = 100;

/// The page of this process, once it has one.
pub(crate) struct StatusPage {
    words: Option<NonNull<AtomicU64>>,
    /// Rows that the table of caches has.
    rows: usize,
    /// The file, where the thread keeps it open.
    file: Option<Fd>,
    keeps: bool,
    /// The process that made it. A child that was made without libc's fork does not have it, and does not know.
    owner: usize,
    /// Whether it could not be made: it is not tried again.
    refused: bool,
    /// Whether a longer one could not be made.
    stays: bool,
    /// CPUs whose rows were ever written.
    seen: CpuSet,
    /// Before this the large objects are not walked again.
    walk_again: u64,
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

/// The words of a page, and where its tables are.
#[derive(Clone, Copy)]
struct Words {
    first: NonNull<AtomicU64>,
    large: usize,
    caches: usize,
    len: usize,
}

impl Words {
    fn over(first: NonNull<AtomicU64>, cpus: usize, rows: usize) -> Self {
        let large = CPU_ROWS + cpus * row::WORDS;
        let caches = large + LARGE_SIZES * large_row::WORDS;
        Self { first, large, caches, len: caches + rows * cache_row::WORDS }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len);
        // SAFETY: the mapping has as many words, and lives as long as the process or the page.
        unsafe { self.first.add(index).as_ref() }
    }

    /// Writes a word, unless it is so already: memory that was never written is not there.
    fn set(&self, index: usize, value: u64) {
        let word = self.word(index);
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn add(&self, index: usize, value: u64) {
        let word = self.word(index);
        word.store(word.load(Ordering::Relaxed) + value, Ordering::Relaxed);
    }
}

impl StatusPage {
    pub(crate) const fn none() -> Self {
        Self {
            words: None,
            rows: FIRST_ROWS,
            file: None,
            keeps: false,
            owner: 0,
            refused: false,
            stays: false,
            seen: CpuSet::new(),
            walk_again: 0,
        }
    }

    fn len(engine: &Engine<Linux>, rows: usize) -> usize {
        let words = Words::over(NonNull::dangling(), engine.possible_cpus(), rows).len;
        (words * size_of::<u64>()).next_multiple_of(engine.platform().page_size())
    }

    /// Makes the status page, if there is none.
    #[cold]
    fn make(&mut self, engine: &Engine<Linux>, unavailable: &mut UnavailableSet) {
        if self.words.is_some() || self.refused {
            return;
        }
        self.refused = !self.map(engine, self.rows);
        unavailable.set(Unavailable::StatusPage, self.refused);
    }

    /// Maps a page with so many rows for caches; a page that there was goes. Returns `false`, and leaves all as it is,
    /// if there is no memory.
    #[cold]
    fn map(&mut self, engine: &Engine<Linux>, rows: usize) -> bool {
        let mapped = if fault::refused(Call::Page) { Err(Errno::NOSYS) } else { sealed_file(Self::len(engine, rows)) };
        let Ok((file, mapping)) = mapped else { return false };
        self.unmap(engine);
        if let Some(old) = self.file.take() {
            descriptors::close(old);
        }
        if self.keeps {
            self.file = Some(file);
        } else {
            descriptors::close(file);
        }
        (self.words, self.rows) = (Some(mapping.cast()), rows);
        self.owner = sys::getpid();
        self.walk_again = 0;
        true
    }

    fn unmap(&mut self, engine: &Engine<Linux>) {
        if let Some(words) = self.words.take() {
            // SAFETY: the mapping is ours, and only the holder of the work uses it.
            let _ = unsafe { sys::munmap(words.as_ptr() as usize, Self::len(engine, self.rows)) };
        }
    }

    /// Makes the status page anew, for a thread that keeps its file open; a mapping that a slow path made goes.
    pub(crate) fn make_and_keep(&mut self, engine: &Engine<Linux>, unavailable: &mut UnavailableSet) {
        self.unmap(engine);
        // An older file was in the table of a thread that ended.
        (self.file, self.keeps) = (None, true);
        self.make(engine, unavailable);
    }

    /// Writes what there is now; makes the status page first, if need be.
    pub(crate) fn write(&mut self, engine: &Engine<Linux>, mut turn: Turn<'_>) {
        if self.words.is_some() && self.owner != sys::getpid() {
            *self = Self::none();
        }
        self.make(engine, turn.unavailable);
        let beyond = self.write_all(engine, &mut turn);
        // As many rows as serve, if the page does not get longer than a reader takes.
        let rows = (beyond + 1).next_power_of_two();
        if beyond > 0 && !self.stays && Self::len(engine, rows) <= LONGEST {
            self.stays = !self.map(engine, rows);
            self.write_all(engine, &mut turn);
        }
    }

    /// Writes all of the page. Returns the highest index of a cache that has no row, or 0.
    fn write_all(&mut self, engine: &Engine<Linux>, turn: &mut Turn<'_>) -> usize {
        let Some(first) = self.words else { return 0 };
        let words = Words::over(first, engine.possible_cpus(), self.rows);
        let sequence = words.word(header::SEQUENCE).load(Ordering::Relaxed) | 1;
        words.set(header::SEQUENCE, sequence);
        fence(Ordering::Release);
        words.set(header::MAGIC, MAGIC);
        words.set(header::VERSION, VERSION);
        write_turn(&words, engine, turn);
        write_pages(&words, engine);
        let clock = || engine.platform().now();
        if turn.now >= self.walk_again {
            let begun = clock();
            write_large(&words, engine);
            self.walk_again = turn.now + REST * clock().saturating_sub(begun);
        }
        let beyond = self.write_caches(&words, engine);
        words.set(header::CPUS, CPU_ROWS as u64);
        words.set(header::CPU_COUNT, engine.possible_cpus() as u64);
        words.set(header::CPU_WORDS, row::WORDS as u64);
        words.word(header::SEQUENCE).store(sequence + 1, Ordering::Release);
        beyond
    }

    /// Rows of CPUs and caches. Those of CPUs that were never used here are left alone: their memory is not touched.
    fn write_caches(&mut self, words: &Words, engine: &Engine<Linux>) -> usize {
        // A CPU may have come and left between two writes.
        let gone = (0..engine.possible_cpus()).filter(|cpu| is_gone(*cpu));
        engine.online_cpus().iter().chain(gone).for_each(|cpu| self.seen.insert(cpu));
        let seen = self.seen;
        let cpu_row = |cpu: usize| CPU_ROWS + cpu * row::WORDS;
        for cpu in seen.iter() {
            let Some(stats) = engine.cpu_stats(cpu) else { continue };
            words.set(cpu_row(cpu) + row::STATE, CpuState::of(cpu, &stats).code());
            words.set(cpu_row(cpu) + row::BYTES, 0);
            words.set(cpu_row(cpu) + row::OBJECTS, 0);
            words.set(cpu_row(cpu) + row::DRAINED, stats.drained as u64);
        }
        let (mut slabs, mut beyond, mut next, mut alive) = (0, 0, 0, 0);
        engine.survey(
            |cpu, cached| {
                if seen.contains(cpu) {
                    words.add(cpu_row(cpu) + row::BYTES, cached.bytes as u64);
                    words.add(cpu_row(cpu) + row::OBJECTS, cached.objects as u64);
                }
            },
            |id, stats| {
                slabs += stats.bytes as u64;
                alive += 1;
                if id.index() < self.rows {
                    clear_rows(words, next, id.index());
                    write_cache(words, id, stats);
                    next = id.index() + 1;
                } else {
                    beyond = id.index();
                }
            },
        );
        clear_rows(words, next, self.rows);
        words.set(header::SLABS, slabs);
        words.set(header::CACHES_ALIVE, alive);
        words.set(header::CACHES, words.caches as u64);
        words.set(header::CACHE_COUNT, self.rows as u64);
        words.set(header::CACHE_WORDS, cache_row::WORDS as u64);
        beyond
    }
}

/// What a turn knows.
fn write_turn(words: &Words, engine: &Engine<Linux>, turn: &Turn<'_>) {
    words.set(header::PID, sys::getpid() as u64);
    words.set(header::MODE, engine.platform().mode().code());
    words.set(header::UPKEEP, upkeep_code(turn.upkeep));
    words.set(header::POLICY, u64::from(cpu_policy() == CpuPolicy::Fixed));
    words.set(header::UNAVAILABLE, u64::from(turn.unavailable.bits()));
    words.set(header::POSSIBLE, engine.possible_cpus() as u64);
    words.set(header::ALLOWED, turn.allowed as u64);
    words.set(header::CPU_BUDGET, turn.cpu_budget as u64);
    words.set(header::UPDATED, turn.now);
    words.set(header::TURNS, turn.turns);
}

/// What the page heap holds.
fn write_pages(words: &Words, engine: &Engine<Linux>) {
    let pages = engine.page_stats();
    let bytes = |granules: usize| (granules * GRANULE) as u64;
    words.set(header::USED, bytes(pages.used));
    words.set(header::IDLE, bytes(pages.dirty));
    words.set(header::COMMITTED, bytes(pages.committed));
    words.set(header::PURGED, bytes(pages.clean));
    words.set(header::METADATA, engine.meta_bytes() as u64);
    let (base, granules) = engine.heap().window();
    words.set(header::WINDOW, base as u64);
    words.set(header::WINDOW_BYTES, bytes(granules));
}

/// The table of large objects.
fn write_large(words: &Words, engine: &Engine<Linux>) {
    for (size, stats) in engine.large_by_size().iter().enumerate() {
        let at = words.large + size * large_row::WORDS;
        words.set(at + large_row::OBJECTS, stats.objects as u64);
        words.set(at + large_row::BYTES, (stats.granules * GRANULE) as u64);
    }
    words.set(header::LARGE, words.large as u64);
    words.set(header::LARGE_COUNT, LARGE_SIZES as u64);
    words.set(header::LARGE_WORDS, large_row::WORDS as u64);
}

/// The row of a cache.
fn write_cache(words: &Words, id: CacheId, stats: &CacheStats<'_>) {
    let at = words.caches + id.index() * cache_row::WORDS;
    words.set(at + cache_row::STATE, 1);
    words.set(at + cache_row::GENERATION, u64::from(id.generation()));
    words.set(at + cache_row::NAME_LEN, stats.name.len() as u64);
    for (place, word) in name_words(stats.name).iter().enumerate() {
        words.set(at + cache_row::NAME + place, *word);
    }
    let mut copy = *stats;
    for (place, figure) in figures(&mut copy).iter().enumerate() {
        words.set(at + cache_row::FIGURES + place, **figure as u64);
    }
}

/// No cache has these rows.
fn clear_rows(words: &Words, from: usize, to: usize) {
    for index in from..to {
        words.set(words.caches + index * cache_row::WORDS + cache_row::STATE, 0);
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
