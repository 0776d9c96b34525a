//! What the fast path needs: a few words in one cache line, and one block of static thread-local storage.
//!
//! # The words
//! A section needs the thread's rseq area (its CPU number is there, and there the section is bound) and the table.
//!
//! - `offset` leads from the thread pointer to the area in use, libc's or our own, which is the same distance in every
//!   thread, since both are static thread-local storage. `use_area` stores it, once.
//! - `table` is the entry of CPU 0. [`publish`] stores it, once.
//!
//! One load each, and no more: the CPU number, the table's entry, the slot are loads that wait for one another, and
//! with one link more in that chain (an offset of our area plus a distance) a pair of malloc and free took half as long
//! again, for each pop waits for the push before it.
//!
//! # Before there is a table
//! The dynamic linker calls `malloc` before any constructor, and then there is nothing to load. No instruction is spent
//! on it: a size below `small` has a class, an address within `granules` is ours, and both are 0 until everything is
//! published, so that the tests that malloc and free make anyway send whoever comes too early to the slow path, which
//! makes the engine. Whoever has an object or a cache has it from a published engine. All others ask
//! [`is_published`].
//!
//! [`publish`] stores the table first and these words last, and x86 keeps stores in order and loads in order: who sees
//! one of them sees the table and the offset. Where our own area is registered a thread's CPU number becomes valid by
//! its own registration, which comes after it has seen [`is_published`].
//!
//! These words are there twice, for sections that go by CPU number and for those that go by concurrency id, and a process
//! uses one of the two. So the choice costs the ordinary sections nothing.
//!
//! # The thread block
//! ```text
//! 0   our own rseq area, 32 bytes, aligned to 32; cpu_id_start = 0, cpu_id = -1
//! 32  HeldRanks, 20 bytes (forks, and in debug builds the ranks)
//! 56  registration: what `own` keeps of the thread
//! 57  rounds: how often the thread's destructors ran
//! 58  the CPU number that the fallback goes by, and for how many sections more
//! 61  lent: a child runs on the thread's data (see `lent`)
//! ```
//! 64 bytes, initial-exec: reached by one addition to the thread pointer, never through a call that allocates. Linkers
//! turn `@GOTTPOFF` into a constant in executables, and into a word that the dynamic linker fills in in shared objects.
//! The symbol carries the crate's version, so that two versions in one program keep apart.

use core::arch::{asm, global_asm};
use core::cell::Cell;

use kmem_core::classes;
use kmem_core::pages::{CLASS_STEP, GRANULE_SHIFT, PageHeap};
use kmem_core::percpu::CpuTable;
use kmem_core::sync::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, HeldRanks, Ordering};

use super::sys;
use super::weak::weak;

/// The thread block's symbol, for asm templates.
macro_rules! thread_symbol {
    () => {
        concat!(
            "kmem_thread_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            env!("CARGO_PKG_VERSION_PATCH")
        )
    };
}

/// The rseq area of a thread, as the kernel defines it.
#[repr(C, align(32))]
pub struct RseqArea {
    /// A CPU number that is always an index: 0 where the thread is not registered.
    pub cpu_id_start: AtomicU32,
    /// The CPU that the thread runs on; -1 or -2 where it is not registered.
    pub cpu_id: AtomicU32,
    /// The descriptor of the section that the thread is in. The only field that user space writes.
    pub rseq_cs: AtomicU64,
    flags: AtomicU32,
    /// The node of the CPU that the thread runs on, where the kernel writes it.
    pub node_id: AtomicU32,
    /// The thread's concurrency id, where the kernel writes it; 0 where the thread is not registered.
    pub mm_cid: AtomicU32,
}

impl RseqArea {
    /// An area that is not registered.
    pub const fn unregistered() -> Self {
        Self {
            cpu_id_start: AtomicU32::new(0),
            cpu_id: AtomicU32::new(u32::MAX),
            rseq_cs: AtomicU64::new(0),
            flags: AtomicU32::new(0),
            node_id: AtomicU32::new(0),
            mm_cid: AtomicU32::new(0),
        }
    }
}

/// Our static thread-local storage.
#[repr(C)]
pub struct ThreadBlock {
    /// Our own area.
    pub rseq: RseqArea,
    /// The lock ranks that the thread holds.
    pub held: HeldRanks,
    _gap: [u8; 24 - size_of::<HeldRanks>()],
    /// Where the thread stands with its registration: see `own`.
    pub registration: Cell<u8>,
    /// How often the thread's destructors ran.
    pub rounds: Cell<u8>,
    /// The CPU number that the fallback goes by.
    pub cpu_hint: Cell<u16>,
    /// For how many sections more it is good.
    pub hint_left: Cell<u8>,
    /// Whether a child may run on this data at the moment: see `lent`.
    pub(super) lent: Cell<bool>,
    _rest: [u8; 2],
}

impl ThreadBlock {
    /// The block of a thread that never registers an area, and so misses in every section.
    pub(super) const fn closed() -> Self {
        Self {
            rseq: RseqArea::unregistered(),
            held: HeldRanks::new(),
            _gap: [0; 24 - size_of::<HeldRanks>()],
            registration: Cell::new(super::own::CLOSED),
            rounds: Cell::new(0),
            cpu_hint: Cell::new(0),
            hint_left: Cell::new(0),
            lent: Cell::new(false),
            _rest: [0; 2],
        }
    }
}

const _: () = assert!(size_of::<RseqArea>() == 32 && size_of::<ThreadBlock>() == 64 && align_of::<ThreadBlock>() == 32);

global_asm!(
    concat!(".pushsection .tdata.", thread_symbol!(), ",\"awT\",@progbits"),
    ".balign 32",
    concat!(".globl ", thread_symbol!()),
    concat!(".hidden ", thread_symbol!()),
    concat!(".type ", thread_symbol!(), ",@object"),
    concat!(".size ", thread_symbol!(), ", 64"),
    concat!(thread_symbol!(), ":"),
    ".long 0, -1",
    ".zero 56",
    ".popsection",
);

/// What sections and [`entry`](super::entry) load, in one cache line.
#[repr(C, align(64))]
pub struct Hot {
    offset: AtomicUsize,
    table: AtomicPtr<AtomicPtr<u8>>,
    /// Sizes below this have a class that is looked up by 16 bytes, sizes below `general` one that is looked up by 128;
    /// 0 before publication.
    small: AtomicUsize,
    general: AtomicUsize,
    /// Number of the window's first granule, counted from address 0, and how many of its granules have a byte in the class
    /// map: as many as were ever handed out, or some more.
    first: AtomicUsize,
    granules: AtomicUsize,
    /// Where the byte of the granule at address 0 would be.
    classes: AtomicPtr<AtomicU8>,
}

/// Where templates find the fields of [`Hot`], and those of the area of a thread.
#[doc(hidden)]
pub mod at {
    use core::mem::offset_of;

    use super::{Hot, RseqArea};

    pub const OFFSET: usize = offset_of!(Hot, offset);
    pub const TABLE: usize = offset_of!(Hot, table);
    pub const SMALL: usize = offset_of!(Hot, small);
    pub const GENERAL: usize = offset_of!(Hot, general);
    pub const FIRST: usize = offset_of!(Hot, first);
    pub const GRANULES: usize = offset_of!(Hot, granules);
    pub const CLASSES: usize = offset_of!(Hot, classes);
    pub const CPU_ID: usize = offset_of!(RseqArea, cpu_id);
    pub const RSEQ_CS: usize = offset_of!(RseqArea, rseq_cs);
    pub const MM_CID: usize = offset_of!(RseqArea, mm_cid);
}

impl Hot {
    /// Words before anything is published: every section misses.
    const fn nothing() -> Self {
        Self {
            offset: AtomicUsize::new(0),
            table: AtomicPtr::new(core::ptr::null_mut()),
            small: AtomicUsize::new(0),
            general: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            granules: AtomicUsize::new(0),
            classes: AtomicPtr::new(core::ptr::null_mut()),
        }
    }
}

/// The one of this program or shared object.
pub static HOT: Hot = Hot::nothing();

/// The one for sections by concurrency id, which are in use where slots go by that (`ids`). Then [`HOT`]
/// has a table, an offset that leads to our own area, which is never registered, and nothing else: so all that goes by
/// CPU number misses.
pub static HOT_BY_ID: Hot = Hot::nothing();

/// Lets sections by CPU number use the area at `offset` from the thread pointer in each thread (`None`: our own). Called
/// once, before any section runs.
pub(super) fn use_area(offset: Option<usize>) {
    HOT.offset.store(offset.unwrap_or_else(own_offset), Ordering::Release);
}

/// Lets sections by concurrency id use the area at `offset`, libc's, and those by CPU number none. As [`use_area`].
pub(super) fn use_ids(offset: usize) {
    HOT_BY_ID.offset.store(offset, Ordering::Release);
    use_area(None);
}

/// Lets [`class_at`] know the heap's window and class map, and those entries that go by `hot`.
///
/// # Safety
/// The heap lives for ever. Called once, after [`publish`], and before others use the heap.
pub unsafe fn publish_classes(heap: &PageHeap, hot: &Hot) {
    let first = heap.window().0 >> GRANULE_SHIFT;
    hot.classes.store(heap.class_map().as_ptr().wrapping_sub(first), Ordering::Release);
    hot.first.store(first, Ordering::Release);
    hot.granules.store(heap.reach(), Ordering::Release);
}

/// Lets them know that the class map is longer now. Called under the heap's lock. Before there is a class map nothing
/// happens: [`publish_classes`] asks.
pub(super) fn reaches(granules: usize, hot: &Hot) {
    if !hot.classes.load(Ordering::Relaxed).is_null() {
        hot.granules.store(granules, Ordering::Release);
    }
}

/// Lets sections use `table`, and those entries that go by `hot`.
///
/// # Safety
/// The table lives for ever, and has an entry for every number that the kernel may write into the area for the
/// sections that go by `hot`. Called once, by one thread, after `use_area` or `use_ids`.
pub unsafe fn publish(table: &CpuTable, hot: &Hot) {
    HOT.table.store(table.entries().as_ptr(), Ordering::Release);
    hot.table.store(table.entries().as_ptr(), Ordering::Release);
    hot.general.store(classes::SMALL + 1, Ordering::Release);
    hot.small.store(super::entry::FINE_MAX + 1, Ordering::Release);
}

/// Whether `publish` was called; if so, the table and where the areas are is seen too.
#[inline(always)]
pub fn is_published() -> bool {
    !HOT.table.load(Ordering::Acquire).is_null()
}

/// The class of the general object at `address`; 0 for all else (large, foreign, null, of a named cache).
#[inline(always)]
pub fn class_at(address: usize) -> u8 {
    // The look-up waits for the address alone; that it is in the window is found out beside it.
    let granule = address >> GRANULE_SHIFT;
    if granule.wrapping_sub(HOT.first.load(Ordering::Relaxed)) >= HOT.granules.load(Ordering::Relaxed) {
        return class_by_id(granule);
    }
    // SAFETY: the map has a byte for each of these granules. Whoever frees an object got it after the map was published,
    // and after it reached so far.
    unsafe { (*HOT.classes.load(Ordering::Relaxed).wrapping_add(granule)).load(Ordering::Relaxed) / CLASS_STEP }
}

/// The same where slots go by concurrency id.
#[cold]
fn class_by_id(granule: usize) -> u8 {
    if granule.wrapping_sub(HOT_BY_ID.first.load(Ordering::Relaxed)) >= HOT_BY_ID.granules.load(Ordering::Relaxed) {
        return 0;
    }
    // SAFETY: as in `class_at`.
    unsafe { (*HOT_BY_ID.classes.load(Ordering::Relaxed).wrapping_add(granule)).load(Ordering::Relaxed) / CLASS_STEP }
}

/// The distance of our thread block from the thread pointer.
fn own_offset() -> usize {
    let offset;
    // SAFETY: loads a constant of the program.
    unsafe {
        asm!(
            concat!("mov {}, qword ptr [rip + ", thread_symbol!(), "@GOTTPOFF]"),
            out(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    offset
}

/// The thread pointer: a number of the calling thread, never 0.
#[inline]
pub fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the word at the thread pointer is the thread pointer itself, by the x86-64 ABI, as long as the thread lives.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, pure, nomem)) };
    pointer
}

/// The block of the calling thread. It lives as long as the thread.
pub fn thread_block() -> *mut ThreadBlock {
    thread_block_at(thread_pointer())
}

/// The block of the thread with this thread pointer.
pub(super) fn thread_block_at(pointer: usize) -> *mut ThreadBlock {
    pointer.wrapping_add(own_offset()) as *mut ThreadBlock
}

/// How far our block, and libc's area if it lies there, reach below the thread pointer.
pub(super) fn bytes_below_thread_pointer() -> usize {
    let area = libc_area().map_or(0, |area| area.offset);
    let below = |offset: usize| (offset as isize).min(0).unsigned_abs();
    below(own_offset()).max(below(area))
}

/// libc's area of the calling thread, by which sections by concurrency id go. Called after `use_ids`.
pub(super) fn area_by_id<'a>() -> &'a RseqArea {
    // SAFETY: the offset is that of libc's area.
    unsafe { area_at(HOT_BY_ID.offset.load(Ordering::Relaxed)) }
}

/// The area at `offset` from the thread pointer, of the calling thread.
///
/// # Safety
/// `offset` is that of an rseq area in static thread-local storage.
pub unsafe fn area_at<'a>(offset: usize) -> &'a RseqArea {
    // SAFETY: the caller's promise.
    unsafe { &*(thread_pointer().wrapping_add(offset) as *const RseqArea) }
}

/// The CPU that the calling thread last was on, by the area that sections use; out of range where it is not registered
/// (I4, I5). Called after `use_area`.
#[inline]
pub fn current_cpu() -> usize {
    let cpu: usize;
    // SAFETY: our area and libc's are static thread-local storage; the offset leads to one of them.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + {hot} + {OFFSET}]",
            "movsxd {t}, dword ptr fs:[{t} + {CPU_ID}]",
            t = out(reg) cpu,
            hot = sym HOT,
            OFFSET = const at::OFFSET,
            CPU_ID = const at::CPU_ID,
            options(nostack, readonly),
        );
    }
    cpu
}

/// Where libc's rseq area is, and how many bytes of it are live.
#[derive(Clone, Copy, Debug)]
pub struct LibcArea {
    /// Distance from the thread pointer.
    pub offset: usize,
    /// 0 where libc did not register it.
    pub size: usize,
}

impl LibcArea {
    /// The number of bytes that libc registered it with: at least those of the first kernel with restartable sequences,
    /// also where libc says that it knows of fewer.
    pub fn registered(self) -> usize {
        self.size.max(sys::RSEQ_LEN)
    }
}

/// What libc says of its registration; `None` where it knows nothing of rseq (musl, glibc before 2.35).
pub fn libc_area() -> Option<LibcArea> {
    let offset = weak!("__rseq_offset").cast::<isize>();
    let size = weak!("__rseq_size").cast::<u32>();
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: the symbols are a `ptrdiff_t` and an `unsigned int` that libc sets before the first thread runs.
    unsafe { Some(LibcArea { offset: offset.read() as usize, size: size.read() as usize }) }
}

/// Whether the process has one thread, as far as libc knows: it may have been more, and is one from here on at most until
/// this thread starts another. A libc that does not say has many.
pub fn is_single_threaded() -> bool {
    let single = weak!("__libc_single_threaded").cast::<u8>();
    // SAFETY: libc's variable, a byte.
    !single.is_null() && unsafe { single.read_volatile() } != 0
}

/// The stack as the program found it (the argument count, the arguments, null, the environment), or null where libc
/// does not say.
///
/// For the time before libc has set `environ`.
pub fn initial_stack() -> *const usize {
    let end = weak!("__libc_stack_end").cast::<*const usize>();
    // SAFETY: libc's variable, which holds an address.
    if end.is_null() { core::ptr::null() } else { unsafe { end.read() } }
}
