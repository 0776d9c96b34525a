//! Reading a copy of the status page.

use core::fmt;

use kmem_core::cpu as engine_cpu;
use kmem_core::pages::{GRANULE, LARGE_SIZES};
use kmem_core::stats::{CacheStats, CpuStats};

use super::caches::figures;
use super::layout::{MAGIC, VERSION, cache as cache_row, cpu as row, header, large as large_row};
use crate::follow::{UnavailableSet, is_gone};
use crate::policy::Upkeep;
use crate::process::mode::Mode;

/// Where a CPU stands in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CpuState {
    /// Something was cached there since it came up.
    Online,
    /// It may be used, and nothing was cached there since it came up.
    Idle,
    /// Its magazines are being emptied.
    Draining,
    /// No thread of the process may run there: it was taken down.
    Gone,
    /// It was taken down by name, and comes up by name.
    HeldDown,
    /// It is down; the first thread that runs there brings it up.
    Offline,
}

impl CpuState {
    const ALL: [Self; 6] = [Self::Online, Self::Idle, Self::Draining, Self::Gone, Self::HeldDown, Self::Offline];

    pub(crate) fn of(cpu: usize, stats: &CpuStats) -> Self {
        match stats.state {
            engine_cpu::CpuState::Online if stats.has_area => Self::Online,
            engine_cpu::CpuState::Online => Self::Idle,
            engine_cpu::CpuState::Draining | engine_cpu::CpuState::Dead => Self::Draining,
            _ if stats.held_down => Self::HeldDown,
            _ if is_gone(cpu) => Self::Gone,
            _ => Self::Offline,
        }
    }

    pub(super) fn code(self) -> u64 {
        self as u64 + 1
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// In one word, or two.
    ///
    /// ```
    /// assert_eq!(kmem::status::CpuState::HeldDown.name(), "held down");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Idle => "idle",
            Self::Draining => "draining",
            Self::Gone => "gone",
            Self::HeldDown => "held down",
            Self::Offline => "offline",
        }
    }
}

/// One CPU of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CpuRow {
    /// Its id; in [`Mode::Cid`] a concurrency id.
    pub cpu: usize,
    /// Where it stands.
    pub state: CpuState,
    /// Bytes of the objects that are cached there.
    pub cached_bytes: u64,
    /// Objects that are cached there.
    pub cached_objects: u64,
    /// Objects that were taken out of its magazines from outside, so far: it left, was idle, or a cache was shrunk.
    pub drained_objects: u64,
}

/// Large objects of about one length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LargeRow {
    /// Bytes that each of them has at least; all have less than twice as many.
    pub from: u64,
    /// How many there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a copy is no page, or none that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unreadable {
    /// It was being written: copy it again.
    BeingWritten,
    /// It has not been written yet.
    Empty,
    /// It is another version's.
    Version {
        /// Which.
        found: u64,
    },
    /// It is something else, or shorter than it says.
    NotAStatusPage,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeingWritten => f.write_str("the page is being written: read it again"),
            Self::Empty => f.write_str("the process has not written its page yet: try again in a second"),
            Self::Version { found } => {
                write!(
                    f,
                    "the process's page has version {found}, this reader knows {VERSION}: use the kmem it was built with"
                )
            }
            Self::NotAStatusPage => f.write_str("what was read is no page of kmem's"),
        }
    }
}

impl core::error::Error for Unreadable {}

/// A copy of a status page.
///
/// ```
/// use kmem::status::{Snapshot, Unreadable};
///
/// // A page that was not written yet.
/// let copy = [0; 4096];
/// let sequence = Snapshot::sequence_of(&copy);
/// assert_eq!(Snapshot::new(&copy, sequence, sequence).unwrap_err(), Unreadable::Empty);
/// ```
///
/// One that was written, here by hand, with a row for CPU 0:
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kmem::status::layout::{MAGIC, VERSION, cpu, header};
/// use kmem::status::{CpuState, Snapshot};
/// use kmem::{Mode, Upkeep};
///
/// let mut words = [0; header::WORDS + cpu::WORDS];
/// (words[header::MAGIC], words[header::VERSION], words[header::SEQUENCE]) = (MAGIC, VERSION, 2);
/// (words[header::PID], words[header::MODE], words[header::UPKEEP]) = (4711, Mode::Rseq.code(), 1);
/// (words[header::POSSIBLE], words[header::ALLOWED], words[header::CPU_BUDGET]) = (4, 2, 1);
/// (words[header::UPDATED], words[header::TURNS]) = (9_000_000_000, 36);
/// (words[header::SLABS], words[header::USED], words[header::IDLE]) = (1 << 20, 3 << 20, 65536);
/// words[header::CPUS] = header::WORDS as u64;
/// (words[header::CPU_COUNT], words[header::CPU_WORDS]) = (1, cpu::WORDS as u64);
/// (words[header::WORDS + cpu::STATE], words[header::WORDS + cpu::BYTES]) = (1, 640);
/// let copy: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
///
/// let sequence = Snapshot::sequence_of(&copy);
/// let status = Snapshot::new(&copy, sequence, sequence)?;
/// assert_eq!((status.pid(), status.mode(), status.upkeep()), (4711, Some(Mode::Rseq), Upkeep::Thread));
/// assert!(status.tracks_affinity() && status.unavailable().iter().count() == 0);
/// assert_eq!((status.possible_cpus(), status.allowed_cpus(), status.cpu_budget()), (4, Some(2), 1));
/// assert_eq!((status.updated(), status.turns()), (9_000_000_000, 36));
/// assert_eq!((status.slab_bytes(), status.large_bytes(), status.idle_bytes()), (1 << 20, 2 << 20, 65536));
/// let cpu = status.cpus().next().expect("a row");
/// assert_eq!((cpu.cpu, cpu.state, cpu.cached_bytes), (0, CpuState::Online, 640));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    bytes: &'a [u8],
}

impl<'a> Snapshot<'a> {
    /// Looks at a copy. `before` and `after`: what [`sequence_of`](Self::sequence_of) said of the page before the copy
    /// was begun and after it was made; it was torn if these and what is in it are not all the same.
    ///
    /// Nothing in the copy is believed: whatever process it is from, it is refused, or read within its bounds.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn new(bytes: &'a [u8], before: u64, after: u64) -> Result<Self, Unreadable> {
        let this = Self { bytes };
        let sequence = this.get(header::SEQUENCE);
        if [before, sequence, after] == [0; 3] {
            return Err(Unreadable::Empty);
        }
        if before != sequence || after != sequence || sequence & 1 == 1 {
            return Err(Unreadable::BeingWritten);
        }
        if this.get(header::MAGIC) != MAGIC {
            return Err(Unreadable::NotAStatusPage);
        }
        match this.get(header::VERSION) {
            VERSION => {}
            found => return Err(Unreadable::Version { found }),
        }
        // A page of an older kmem's has no other tables: their words are 0.
        let tables = [
            (header::CPUS, row::LEAST, true),
            (header::CACHES, cache_row::LEAST, false),
            (header::LARGE, large_row::WORDS, false),
        ];
        let all = tables.iter().all(|&(at, least, must)| this.has_table(at, least, must));
        if all { Ok(this) } else { Err(Unreadable::NotAStatusPage) }
    }

    /// Whether the table that the header names at this word and the two after it is inside of the copy, and its rows
    /// are as wide as they must be; or it has no row, if it need not be there.
    fn has_table(&self, at: usize, least: usize, must: bool) -> bool {
        let (first, count, width) = (self.at(at), self.at(at + 1), self.at(at + 2));
        let end = count.checked_mul(width).and_then(|words| words.checked_add(first));
        let fits = end.is_some_and(|end| end <= self.bytes.len() / size_of::<u64>());
        if fits && width >= least {
            return true;
        }
        !must && [first, count, width] == [0; 3]
    }

    /// The sequence in a copy, or in the beginning of one.
    pub fn sequence_of(bytes: &[u8]) -> u64 {
        Snapshot { bytes }.get(header::SEQUENCE)
    }

    fn get(&self, index: usize) -> u64 {
        let at = index.saturating_mul(size_of::<u64>());
        let word = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        word.map_or(0, |word| u64::from_ne_bytes(*word))
    }

    fn at(&self, index: usize) -> usize {
        usize::try_from(self.get(index)).unwrap_or(usize::MAX)
    }

    /// The process that wrote it.
    pub fn pid(&self) -> u64 {
        self.get(header::PID)
    }

    /// How sections are kept apart there; `None`: in a way that this reader does not know.
    pub fn mode(&self) -> Option<Mode> {
        Mode::from_code(self.get(header::MODE))
    }

    /// How upkeep is taken care of there.
    pub fn upkeep(&self) -> Upkeep {
        match self.get(header::UPKEEP) {
            0 => Upkeep::Off,
            1 => Upkeep::Thread,
            _ => Upkeep::SlowPaths,
        }
    }

    /// Whether CPUs that leave are taken down: [`CpuPolicy::TrackAffinity`](crate::policy::CpuPolicy::TrackAffinity).
    pub fn tracks_affinity(&self) -> bool {
        self.get(header::POLICY) == 0
    }

    /// The kernel facilities that the process was denied.
    pub fn unavailable(&self) -> UnavailableSet {
        UnavailableSet::from_bits(self.get(header::UNAVAILABLE) as u32)
    }

    /// CPU ids are below this.
    pub fn possible_cpus(&self) -> usize {
        self.at(header::POSSIBLE)
    }

    /// CPUs that the process may run on; `None`: not known.
    pub fn allowed_cpus(&self) -> Option<usize> {
        Some(self.at(header::ALLOWED)).filter(|cpus| *cpus > 0)
    }

    /// For how many CPUs it is worth to cache: the least of CPUs allowed, cgroup quota and threads.
    pub fn cpu_budget(&self) -> usize {
        self.at(header::CPU_BUDGET)
    }

    /// When it was written, in nanoseconds of CLOCK_MONOTONIC.
    pub fn updated(&self) -> u64 {
        self.get(header::UPDATED)
    }

    /// Turns of upkeep so far.
    pub fn turns(&self) -> u64 {
        self.get(header::TURNS)
    }

    /// Bytes of all slabs.
    pub fn slab_bytes(&self) -> u64 {
        self.get(header::SLABS)
    }

    /// Bytes of large objects, which are no cache's.
    pub fn large_bytes(&self) -> u64 {
        self.get(header::USED).saturating_sub(self.get(header::SLABS))
    }

    /// Bytes of free pages that still hold memory.
    pub fn idle_bytes(&self) -> u64 {
        self.get(header::IDLE)
    }

    /// Bytes of address space for objects that is usable, whether it holds memory or not.
    pub fn committed_bytes(&self) -> u64 {
        self.get(header::COMMITTED)
    }

    /// Bytes of free pages whose memory was released.
    pub fn purged_bytes(&self) -> u64 {
        self.get(header::PURGED)
    }

    /// Bytes mapped for the allocator's own descriptors and magazines.
    pub fn metadata_bytes(&self) -> u64 {
        self.get(header::METADATA)
    }

    /// Where objects are: an address, and how many bytes from there on; `None` on a page of an older kmem's.
    pub fn window(&self) -> Option<(u64, u64)> {
        Some((self.get(header::WINDOW), self.get(header::WINDOW_BYTES))).filter(|window| *window != (0, 0))
    }

    /// How many caches there are; [`caches`](Self::caches) has fewer if there was no memory for more.
    pub fn cache_count(&self) -> usize {
        self.at(header::CACHES_ALIVE)
    }

    /// The caches, the general ones first. One whose name is no text is left out.
    pub fn caches(&self) -> impl Iterator<Item = CacheStats<'a>> + '_ {
        let (first, width) = (self.at(header::CACHES), self.at(header::CACHE_WORDS));
        (0..self.at(header::CACHE_COUNT)).filter_map(move |index| self.cache_at(first + index * width))
    }

    /// The row of a cache; the table was found to be inside.
    fn cache_at(&self, at: usize) -> Option<CacheStats<'a>> {
        if self.get(at + cache_row::STATE) != 1 {
            return None;
        }
        let len = self.at(at + cache_row::NAME_LEN).min(cache_row::NAME_WORDS * size_of::<u64>());
        let name = self.bytes.get((at + cache_row::NAME) * size_of::<u64>()..)?.get(..len)?;
        let mut stats = CacheStats::default();
        for (place, figure) in figures(&mut stats).into_iter().enumerate() {
            *figure = self.at(at + cache_row::FIGURES + place);
        }
        stats.name = core::str::from_utf8(name).ok()?;
        stats.bytes = stats.slabs.saturating_mul(stats.slab_bytes);
        Some(stats)
    }

    /// The large objects that are in use, by length; none on a page of an older kmem's.
    pub fn large_objects(&self) -> impl Iterator<Item = LargeRow> + '_ {
        let (first, width) = (self.at(header::LARGE), self.at(header::LARGE_WORDS));
        (0..self.at(header::LARGE_COUNT).min(LARGE_SIZES)).filter_map(move |size| {
            let at = first + size * width;
            let (objects, bytes) = (self.get(at + large_row::OBJECTS), self.get(at + large_row::BYTES));
            (objects > 0).then_some(LargeRow { from: (GRANULE as u64) << size, objects, bytes })
        })
    }

    /// The CPUs that were ever used there, or are online.
    pub fn cpus(&self) -> impl Iterator<Item = CpuRow> + '_ {
        let (first, width) = (self.at(header::CPUS), self.at(header::CPU_WORDS));
        (0..self.at(header::CPU_COUNT)).filter_map(move |cpu| {
            let at = first + cpu * width;
            Some(CpuRow {
                cpu,
                state: CpuState::from_code(self.get(at + row::STATE))?,
                cached_bytes: self.get(at + row::BYTES),
                cached_objects: self.get(at + row::OBJECTS),
                drained_objects: self.get(at + row::DRAINED),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &[(usize, u64)]) -> std::vec::Vec<u8> {
        let mut page = std::vec![0; 4096];
        let fixed = [(header::MAGIC, MAGIC), (header::VERSION, VERSION), (header::SEQUENCE, 2)];
        for (index, word) in fixed.iter().chain(words) {
            page[index * 8..index * 8 + 8].copy_from_slice(&word.to_ne_bytes());
        }
        page
    }

    #[test]
    fn rows_are_found_where_the_header_says() {
        let page = page(&[
            (header::CPUS, 100),
            (header::CPU_COUNT, 3),
            (header::CPU_WORDS, 10),
            (110, 4),
            (111, 64),
            (112, 2),
            (113, 9),
        ]);
        let snapshot = Snapshot::new(&page, 2, 2).expect("a page");
        let rows: std::vec::Vec<_> = snapshot.cpus().collect();
        let row = CpuRow { cpu: 1, state: CpuState::Gone, cached_bytes: 64, cached_objects: 2, drained_objects: 9 };
        assert_eq!(rows, [row]);
    }

    fn refused(words: &[(usize, u64)], before: u64, after: u64) -> Option<Unreadable> {
        Snapshot::new(&page(words), before, after).err()
    }

    #[test]
    fn what_is_no_page_is_refused() {
        assert_eq!(refused(&[(header::SEQUENCE, 0)], 0, 0), Some(Unreadable::Empty));
        assert_eq!(refused(&[(header::MAGIC, 1)], 2, 2), Some(Unreadable::NotAStatusPage));
        assert_eq!(refused(&[(header::VERSION, 9)], 2, 2), Some(Unreadable::Version { found: 9 }));
        assert!(Snapshot::new(b"short", 0, 0).is_err() && Snapshot::new(b"", 2, 2).is_err());
    }

    #[test]
    fn a_copy_that_is_torn_is_refused() {
        assert_eq!(refused(&[(header::SEQUENCE, 3)], 3, 3), Some(Unreadable::BeingWritten));
        for (before, copied, after) in [(2, 2, 4), (2, 4, 4), (4, 2, 2), (2, 2, 3), (1, 2, 2), (0, 2, 2), (0, 0, 1)] {
            let torn = refused(&[(header::SEQUENCE, copied)], before, after);
            assert_eq!(torn, Some(Unreadable::BeingWritten), "{before}, {copied}, {after}");
        }
    }

    /// Whatever a table is said to be, it is refused, or it is inside.
    #[test]
    fn tables_that_are_forged_are_refused_or_inside() {
        let odd =
            [0, 1, 3, 4, 5, 8, 63, 64, 511, 512, 513, 1 << 32, u64::MAX / 8, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];
        let mut read = 0;
        for first in odd {
            for count in odd {
                for width in odd {
                    let page = page(&[(header::CPUS, first), (header::CPU_COUNT, count), (header::CPU_WORDS, width)]);
                    if let Ok(snapshot) = Snapshot::new(&page, 2, 2) {
                        assert!(width >= 4 && first + count * width <= 512, "{first}, {count}, {width}");
                        read += snapshot.cpus().count();
                    }
                }
            }
        }
        assert!(read < 20_000, "{read} rows");
    }

    #[test]
    fn states_and_modes_have_codes() {
        for state in CpuState::ALL {
            assert_eq!(CpuState::from_code(state.code()), Some(state));
        }
        assert_eq!(CpuState::from_code(0), None);
    }
}
