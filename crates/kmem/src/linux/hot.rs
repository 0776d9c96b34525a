//! What the fast path needs: two words of one cache line, and one block of static thread-local storage.
//!
//! # The two words
//! A section needs the thread's rseq area (its CPU number is there, and there the section is bound) and the table.
//!
//! - `delta` leads from *our own* area, which is in our thread-local block, to the area in use. It is 0 at first, and
//!   stays 0 where we register our own area or none. Where libc has registered its area, `delta` is the distance
//!   between the two, which is the same in every thread, since both are static thread-local storage.
//! - `table` is the entry of CPU 0. At first it is that of a boot table, which has no entry but those before CPU 0.
//!
//! So the fast path carries no test of 'are we initialised'. Before that, `delta` is 0, our own area is not registered,
//! its CPU number is -1, and the entry of -1 is the boot area, in which every slot is disabled (I3): an ordinary miss.
//! This holds from the first instruction of the program on; `malloc` is called by the dynamic linker before any
//! constructor. (One word with the final offset would be shorter by an addition, but its first value would have to be a
//! thread-pointer offset in initialised data, which linkers refuse in shared objects.)
//!
//! # Order
//! [`publish`] stores the table, then `delta`. A section loads `delta`, then the CPU number through it, then the table;
//! x86 keeps stores in order and loads in order. So
//!
//! ```text
//! section loads delta       | publish: table = real        a section that sees the new delta (and so a real CPU number)
//! section loads cpu_id      | publish: delta = libc's      sees the real table; one that sees the old delta reads -1 from
//! section loads table       |                              our area, and entry -1 exists in both tables.
//! ```
//! Where our own area is registered `delta` does not change; there a thread's CPU number becomes valid by its own
//! registration, which comes after it has seen [`is_published`], and the number is loaded before the table.
//!
//! # The thread block
//! ```text
//! 0   our own rseq area, 32 bytes, aligned to 32; cpu_id_start = 0, cpu_id = -1
//! 32  HeldRanks, 18 bytes (debug builds use it)
//! 56  registration: what `own` keeps of the thread
//! 57  rounds: how often the thread's destructors ran
//! 58  the CPU number that the fallback goes by, and for how many sections more
//! ```
//! 64 bytes, initial-exec: reached by one addition to the thread pointer, never through a call that allocates. Linkers
//! turn `@GOTTPOFF` into a constant in executables, and into a word that the dynamic linker fills in in shared objects.
//! The symbol carries the crate's version, so that two versions in one program keep apart.

use core::arch::{asm, global_asm};
use core::cell::Cell;

use kmem_core::percpu::CpuTable;
use kmem_core::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, HeldRanks, Ordering};

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
pub(super) use thread_symbol;

/// Slots that the boot area has: before [`publish`] sections may name slots below this.
pub const BOOT_SLOTS: usize = 128;
const _: () = assert!(kmem_core::classes::CLASSES < BOOT_SLOTS, "general classes are used before `publish`");
const HEADER_WORDS: usize = 8;
/// Entries of a table before that of CPU 0.
const BEFORE: usize = 2;

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
    node_id: AtomicU32,
    mm_cid: AtomicU32,
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
    _rest: [u8; 3],
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

#[repr(C, align(64))]
struct BootArea {
    header: [usize; HEADER_WORDS],
    slots: [[usize; 2]; BOOT_SLOTS],
}

/// An area of disabled slots behind an odd word. Read-only: no section writes where it finds nothing.
static BOOT_AREA: BootArea = BootArea { header: [0, 0, 0, 0, 0, 0, 0, 1], slots: [[0; 2]; BOOT_SLOTS] };

const fn boot_area() -> AtomicPtr<u8> {
    AtomicPtr::new((&raw const BOOT_AREA).cast::<u8>().wrapping_add(HEADER_WORDS * size_of::<usize>()).cast_mut())
}

/// The entries of CPUs -2 and -1.
static BOOT_TABLE: [AtomicPtr<u8>; BEFORE] = [boot_area(), boot_area()];

/// What sections load. The offsets of the fields are known to the templates in `rseq`: 0 and 8.
#[repr(C, align(64))]
pub struct Hot {
    delta: AtomicUsize,
    table: AtomicPtr<AtomicPtr<u8>>,
    published: AtomicU32,
}

/// The one of this program or shared object.
pub static HOT: Hot = Hot {
    delta: AtomicUsize::new(0),
    table: AtomicPtr::new((&raw const BOOT_TABLE).cast::<AtomicPtr<u8>>().cast_mut().wrapping_add(BEFORE)),
    published: AtomicU32::new(0),
};

/// Lets sections use `table`, and the area at `offset` from the thread pointer in each thread (`None`: our own).
///
/// # Safety
/// The table lives for ever, and has an entry for every CPU number that the kernel may write into the area. Called
/// once, by one thread.
pub unsafe fn publish(table: &CpuTable, offset: Option<usize>) {
    let delta = offset.map_or(0, |offset| offset.wrapping_sub(own_offset()));
    HOT.table.store(table.entries().as_ptr(), Ordering::Release);
    HOT.delta.store(delta, Ordering::Release);
    HOT.published.store(1, Ordering::Release);
}

/// Whether [`publish`] was called; if so, the table and `delta` are seen too.
pub fn is_published() -> bool {
    HOT.published.load(Ordering::Acquire) != 0
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
    // SAFETY: the word at the thread pointer is the thread pointer itself, by the x86-64 ABI.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly)) };
    pointer
}

/// The block of the calling thread. It lives as long as the thread.
pub fn thread_block() -> *mut ThreadBlock {
    thread_pointer().wrapping_add(own_offset()) as *mut ThreadBlock
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
/// (I4, I5).
#[inline]
pub fn current_cpu() -> usize {
    let cpu: usize;
    // SAFETY: our area and libc's are static thread-local storage; delta leads to one of them.
    unsafe {
        asm!(
            concat!("mov {t}, qword ptr [rip + ", thread_symbol!(), "@GOTTPOFF]"),
            "add {t}, qword ptr [rip + {hot}]",
            "movsxd {t}, dword ptr fs:[{t} + 4]",
            t = out(reg) cpu,
            hot = sym HOT,
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

/// What libc says of its registration; `None` where it knows nothing of rseq (musl, glibc before 2.35).
///
/// The symbols are weak, so a libc without them leaves null addresses, and no call of dlsym, which may allocate, is
/// needed.
pub fn libc_area() -> Option<LibcArea> {
    let (offset, size): (*const isize, *const u32);
    // SAFETY: loads two words of the global offset table, which hold an address or null.
    unsafe {
        asm!(
            ".weak __rseq_offset",
            ".weak __rseq_size",
            "mov {0}, qword ptr [rip + __rseq_offset@GOTPCREL]",
            "mov {1}, qword ptr [rip + __rseq_size@GOTPCREL]",
            out(reg) offset, out(reg) size,
            options(nostack, preserves_flags, readonly),
        );
    }
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: the symbols are a `ptrdiff_t` and an `unsigned int` that libc sets before the first thread runs.
    unsafe { Some(LibcArea { offset: offset.read() as usize, size: size.read() as usize }) }
}

/// The stack as the program found it (the argument count, the arguments, null, the environment), or null where libc
/// does not say.
///
/// For the time before libc has set `environ`.
pub fn initial_stack() -> *const usize {
    let end: *const *const usize;
    // SAFETY: loads a word of the global offset table, which holds an address or null.
    unsafe {
        asm!(
            ".weak __libc_stack_end",
            "mov {}, qword ptr [rip + __libc_stack_end@GOTPCREL]",
            out(reg) end,
            options(nostack, preserves_flags, readonly),
        );
        if end.is_null() { core::ptr::null() } else { end.read() }
    }
}
