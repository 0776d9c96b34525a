//! What a home of the engine implements: five small traits, and [`Platform`] for all of them together.
//!
//! | trait | on Linux | on bare metal | in `kmem-sim` |
//! |---|---|---|---|
//! | [`Sections`] | restartable sequences, or a try-lock a CPU | interrupts off | modelled aborts |
//! | [`Sections::fence`] | membarrier | IPI | an epoch a CPU |
//! | [`PageSource`] | one reserved range, mmap | physical memory | the test's memory, with injected failures |
//! | [`Park`] | futex | spinning | yielding |
//! | [`Topology`], [`Clock`] | system calls | tables | fields |
//!
//! Every method may be called from any slow path: none may allocate from the engine.

use core::ptr::NonNull;

use crate::cpu::{CpuSet, Protocol};
use crate::percpu::{CpuTable, SlotIndex};
use crate::sync::{AtomicUsize, HeldRanks, OtherFirst, Waiters, Word};

mod step;

pub use step::{CacheStep, CpuStep, Place, SlotStep, Step};

/// All that the engine needs of its home.
pub trait Platform: Sections + PageSource + Park + Topology + Clock + Send + Sync + Sized + 'static {}

impl<T: Sections + PageSource + Park + Topology + Clock + Send + Sync + Sized + 'static> Platform for T {}

/// CPU-local critical sections on the slot of the CPU that the thread happens to run on, and the fence that ends them.
///
/// Each section reads `table[cpu]` inside itself, works on that area's slot, and takes effect by one last store (its
/// commit), or not at all. A section may serve from any CPU's slot (a stale CPU number is harmless, I4) as long as it
/// obeys the fence.
///
/// # Safety
/// Implementers guarantee: (1) sections on one CPU take effect one after another; (2) when `fence(S)` returns, every
/// section on a CPU of S that had read the table before the call has either committed, visibly to the caller, or will
/// never commit, and `fence_here(k)` that answers `true` is `fence({k})`; (3) a section writes only magazine words at or
/// above the cursor, and the cursor.
pub unsafe trait Sections {
    /// Takes the newest object of the slot; `None` on every unusual case (empty, disabled, stopped, unregistered
    /// thread).
    ///
    /// # Safety
    /// `slot` is below the table's number of slots, and the table lives as long as the platform.
    unsafe fn pop(&self, table: &CpuTable, slot: SlotIndex) -> Option<NonNull<u8>>;

    /// Puts `object` into the slot; `false` on every unusual case (full, disabled, stopped, unregistered thread).
    ///
    /// # Safety
    /// As for [`pop`](Self::pop); the object belongs to the slot's cache and to the caller (I7).
    unsafe fn push(&self, table: &CpuTable, slot: SlotIndex, object: NonNull<u8>) -> bool;

    /// Moves up to `out.len()` of the newest objects into `out` in one section and answers how many.
    ///
    /// # Safety
    /// As for [`pop`](Self::pop).
    unsafe fn pop_batch(&self, table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize;

    /// Moves the first objects of `objects` into the slot in one section, as many as fit, and answers how many.
    ///
    /// # Safety
    /// As for [`push`](Self::push), for each object.
    unsafe fn push_batch(&self, table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize;

    /// Waits until no section that began before the call can still commit on any CPU of `cpus`.
    fn fence(&self, cpus: &CpuSet);

    /// A fence of the CPU that the thread is on, where being there is one: no other thread is inside a section there, and
    /// those that were will not commit. `false`, and no fence, where the thread is not on `cpu`, or where it is not so.
    ///
    /// It costs nothing, waits for nobody and cannot fail, so that any slow path may call it.
    fn fence_here(&self, _cpu: usize) -> bool {
        false
    }

    /// A fence of one CPU, if that asks the kernel for nothing: for what can be done another time as well. `false`, and no
    /// fence, where it cannot be had so.
    fn fence_quietly(&self, cpu: usize) -> bool {
        self.fence_here(cpu)
    }

    /// How often it is worth to look whether somebody on a stopped CPU has called [`fence_here`](Self::fence_here) there,
    /// before it is fenced from afar. 0: a fence costs no more than that.
    fn patience(&self) -> u32 {
        0
    }

    /// Whether a fence can be had at this moment. Asked before one is taken that could be done without.
    fn can_fence(&self) -> bool {
        true
    }

    /// The CPU that the thread runs on, as far as is known: a hint, which may be stale, out of range or a lie (I4, I5).
    fn current_cpu(&self) -> usize;

    /// Whether the thread may run on `cpu` at this moment. Asked before a CPU comes up because a thread runs there: a
    /// platform whose [`current_cpu`](Self::current_cpu) is out of date for long looks here.
    fn is_on(&self, _cpu: usize) -> bool {
        true
    }
}

/// A range of address space that the engine may fill from the bottom.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// First address; a multiple of the granule.
    pub base: usize,
    /// Bytes; a multiple of the granule.
    pub len: usize,
}

/// Why a part of the window could not be made usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitError {
    /// There is no memory, or a limit is reached.
    NoMemory,
    /// Something else lies there (only where the window is claimed without being held).
    Taken,
}

/// Why pages could not be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// The source does not do that, or not now: both ranges are as they were.
    Refused,
    /// The range that was to take the pages is not committed any more. The pages are where they were.
    Lost,
}

/// Where runs of pages come from.
///
/// # Safety
/// Memory handed out is valid for reads and writes, zero, and nobody else's until given back.
pub unsafe trait PageSource {
    /// Bytes of the smallest piece whose memory can be given back; a power of two.
    fn page_size(&self) -> usize;

    /// Bytes of the piece around `addr` in the window whose memory comes as a whole when any of it is touched first: a
    /// power of two to which the piece is aligned, at least a page. By default it is a page.
    fn unit(&self, _addr: usize) -> usize {
        self.page_size()
    }

    /// The engine hands memory out of this committed range that will be filled, and more of the range will soon follow:
    /// the source may make the whole range one [`unit`](Self::unit). None of it was touched since it was committed or
    /// purged. By default nothing is done.
    fn fills(&self, _addr: usize, _len: usize) {}

    /// Address space for objects: called once, when the engine is made.
    fn reserve(&self) -> Option<Window>;

    /// The engine's class map has a byte for the first `granules` granules that it hands out of the window, from now on:
    /// more than before. Fast paths that read it find nothing of the engine's above. By default nothing is done.
    fn reaches(&self, _granules: usize) {}

    /// Makes `len` bytes at `addr` in the window usable and zero.
    ///
    /// # Safety
    /// The range is inside the window and is not committed.
    unsafe fn commit(&self, addr: usize, len: usize) -> Result<(), CommitError>;

    /// Gives the memory of a committed range back; it reads as zero afterwards and can be used again without a call.
    ///
    /// # Safety
    /// The range is committed and holds nothing anybody needs.
    unsafe fn purge(&self, addr: usize, len: usize);

    /// Gives the memory of a committed range back, and the range itself: it cannot be used until it is committed again.
    ///
    /// # Safety
    /// As for [`purge`](Self::purge).
    unsafe fn uncommit(&self, addr: usize, len: usize);

    /// Moves the memory of `len` bytes at `from`, content and all, to `to`, without copying it, and makes `longer` bytes
    /// there usable: the rest of them reads as zero. The memory that was at `to` goes, and `from` is not committed
    /// afterwards. By default the source refuses.
    ///
    /// # Safety
    /// Both ranges are committed and apart from each other, nobody uses them meanwhile, and what is at `to` is not
    /// needed. `longer` is more than `len`.
    unsafe fn move_pages(&self, _from: usize, _len: usize, _to: usize, _longer: usize) -> Result<(), MoveError> {
        Err(MoveError::Refused)
    }

    /// Zeroed memory for metadata, outside of the window, aligned to a page.
    fn map(&self, len: usize) -> Option<NonNull<u8>>;

    /// Gives a mapping of [`map`](Self::map) back.
    ///
    /// # Safety
    /// `ptr` and `len` are those of one `map`, and nobody uses it any more.
    unsafe fn unmap(&self, ptr: NonNull<u8>, len: usize);
}

/// Sleeping and waking on a word, and who a thread is.
///
/// # Safety
/// `thread_token` differs between threads that are alive, is never 0, is a multiple of 4, and stays what it is for the thread
/// that goes on in a child made by fork; `held_ranks` belongs to the calling thread alone.
pub unsafe trait Park {
    /// Sleeps while `*word == expected`; may return early.
    fn wait(&self, word: &AtomicUsize, expected: usize);
    /// Wakes one thread that waits on `word`.
    fn wake_one(&self, word: &AtomicUsize);
    /// Wakes all threads that wait on `word`.
    fn wake_all(&self, word: &AtomicUsize);
    /// A number for the calling thread.
    fn thread_token(&self) -> usize;
    /// The lock ranks that the calling thread holds (asserted in debug builds only), and its forks. `None`: not known,
    /// nothing is asserted, and the thread does not fork.
    fn held_ranks(&self) -> Option<&HeldRanks>;

    /// Lets others run for a while; the longer, the more tries there were.
    fn rest(&self, tries: u32);

    /// Where threads that sleep leave a note. `None`: nobody forks in a signal handler here.
    fn waiters(&self) -> Option<&Waiters> {
        None
    }

    /// A fork begins, and holds no lock of the engine yet: for locks of others that come before.
    fn lock_outer(&self) {}

    /// A fork has given all back but what [`lock_outer`](Self::lock_outer) took.
    fn unlock_outer(&self) {}

    /// The words that sections of the platform hold, if any: a fork takes them last.
    fn for_each_word(&self, _visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst>
    where
        Self: Sized,
    {
        Ok(())
    }

    /// Called between the steps of an operation: a simulator lets other threads run here. Nothing, everywhere else.
    #[inline(always)]
    fn step(&self, _step: Step<'_>) {}

    /// Which defences are on: a simulator tries what becomes of the engine without them. Both, everywhere else. Must
    /// not change.
    #[inline(always)]
    fn protocol(&self) -> Protocol {
        Protocol::BOTH
    }
}

/// Which CPUs and nodes there may be.
pub trait Topology {
    /// CPU ids are below this number, for ever.
    fn possible_cpus(&self) -> usize;
    /// CPUs that count as online when the engine is made.
    fn initial_cpus(&self) -> CpuSet;
    /// Node ids are below this number; at least 1.
    fn nodes(&self) -> usize;
    /// The node of a CPU: a hint (any value is mapped into range).
    fn node_of(&self, cpu: usize) -> usize;
}

/// Time since some fixed point.
pub trait Clock {
    /// Nanoseconds.
    fn now(&self) -> u64;
}
