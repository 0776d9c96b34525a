//! The block of each thread: 64 bytes of static thread-local storage.
//!
//! ```text
//! 0   our own rseq area, 32 bytes, aligned to 32; cpu_id_start = 0, cpu_id = -1
//! 32  HeldRanks, 20 bytes (forks, and in debug builds the ranks)
//! 52  left: bytes until the profile's next sample, counted by `profile`
//! 56  registration: what `registration` keeps of the thread
//! 57  rounds: how often the thread's destructors ran
//! 58  the CPU number that the fallback goes by, and for how many sections more
//! 61  lent: a child runs on the thread's data (see `lent`)
//! 62  session: of the profile, for which `left` is
//! ```
//! 64 bytes, initial-exec: reached by one addition to the thread pointer, never through a call that allocates. The
//! symbol carries the crate's version, so that two versions in one program keep apart.

use core::arch::global_asm;
use core::cell::Cell;
use core::fmt;

use kmem_core::sync::{AtomicU32, AtomicU64, HeldRanks};

use crate::arch;
use crate::os::libc;

/// Where a thread stands with its registration: see [`registration`](crate::process::registration).
pub(crate) const FRESH: u8 = 0;
pub(crate) const REGISTERED: u8 = 1;
pub(crate) const CLOSED: u8 = 2;

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
#[derive(Debug)]
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
    /// Bytes until the next sample of the profile.
    pub(crate) left: Cell<u32>,
    /// Where the thread stands with its registration: see `registration`.
    pub registration: Cell<u8>,
    /// How often the thread's destructors ran.
    pub rounds: Cell<u8>,
    /// The CPU number that the fallback goes by.
    pub cpu_hint: Cell<u16>,
    /// For how many sections more it is good.
    pub hint_left: Cell<u8>,
    /// Whether a child may run on this data at the moment: see `lent`.
    pub(crate) lent: Cell<bool>,
    /// The session of the profile for which `left` was drawn; 0: none.
    pub(crate) session: Cell<u8>,
    _rest: [u8; 1],
}

impl ThreadBlock {
    /// The block of a thread that never registers an area, and so misses in every section.
    pub(crate) const fn closed() -> Self {
        Self {
            rseq: RseqArea::unregistered(),
            held: HeldRanks::new(),
            left: Cell::new(0),
            registration: Cell::new(CLOSED),
            rounds: Cell::new(0),
            cpu_hint: Cell::new(0),
            hint_left: Cell::new(0),
            lent: Cell::new(false),
            session: Cell::new(0),
            _rest: [0; 1],
        }
    }
}

impl fmt::Debug for ThreadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBlock").field("rseq", &self.rseq).finish_non_exhaustive()
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

/// The distance of our thread block from the thread pointer.
pub(crate) fn own_offset() -> usize {
    arch::own_offset!(thread_symbol!())
}

/// The thread pointer: a number of the calling thread, never 0.
#[inline]
pub fn pointer() -> usize {
    arch::thread_pointer()
}

/// The block of the calling thread. It lives as long as the thread.
pub fn block() -> *mut ThreadBlock {
    block_at(pointer())
}

/// The block of the thread with this thread pointer.
pub(crate) fn block_at(pointer: usize) -> *mut ThreadBlock {
    pointer.wrapping_add(own_offset()) as *mut ThreadBlock
}

/// How far our block, and libc's area, reach below the thread pointer, and how far above: one of them may lie there,
/// and the other here.
pub(crate) fn bytes_around_pointer() -> (usize, usize) {
    let begins = [own_offset() as isize, libc::rseq_area().map_or(0, |area| area.offset as isize)];
    let below = begins.map(|begin| begin.min(0).unsigned_abs());
    let above = begins.map(|begin| (begin + size_of::<ThreadBlock>() as isize).max(0).unsigned_abs());
    (below[0].max(below[1]), above[0].max(above[1]))
}

/// The area at `offset` from the thread pointer, of the calling thread.
///
/// # Safety
/// `offset` is that of an rseq area in static thread-local storage.
pub unsafe fn area_at<'a>(offset: usize) -> &'a RseqArea {
    // SAFETY: the caller's promise.
    unsafe { &*(pointer().wrapping_add(offset) as *const RseqArea) }
}
