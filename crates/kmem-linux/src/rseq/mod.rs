//! The four sections as restartable sequences.
//!
//! | file | what it holds |
//! |---|---|
//! | `x86_64` | the instructions |
//! | [`entry`] | malloc and free as whole functions around a sequence |
//! | [`hot`] | the words that the fast path loads |
//! | [`thread_data`] | the block of each thread |
//! | `ids` | concurrency ids in the place of CPU numbers |
//! | `fence` | membarrier |
//!
//! # How a restartable sequence works
//! Each thread shares an area of 32 bytes with the kernel. The kernel keeps the number of the CPU that the thread runs
//! on there; the thread stores the address of a descriptor there, which says 'from `start`, for `length` bytes, I am in
//! a section; its end is `abort`'. If the thread is preempted, moved to another CPU, gets a signal or is fenced while
//! its instruction pointer is in that range, it goes on at `abort`. The last instruction of the range is the commit. So
//! between `start` and the commit the thread owns its CPU's slot, or the section is over; a section that did not commit
//! leaves no trace (a word that it wrote at or above the cursor belongs to no object).
//!
//! ```text
//! 2:  area = thread pointer + offset
//!     area.rseq_cs = &descriptor                  bind
//! 3:  cpu = area.cpu_id (sign extended)           start
//!     slots = TABLE[cpu]                          an unregistered thread finds the empty area at -1 or -2 (I3)
//!     ... load, test: a miss leaves, without a store ...
//!     slots.cursor = new                          commit
//! 4:  leave
//!     signature
//! 6:  a miss                                      here an aborted section goes on
//! ```
//! `start` stands right after the store that binds: preempted before the store, nothing is bound; after it, the
//! section aborts. Nothing is unbound after the commit: the kernel does so by itself when it finds the thread outside
//! of the range.
//!
//! A thread that is not registered is never aborted: its number stays -1 (or -2), so it misses.
//!
//! # An aborted section is a miss
//! It could begin anew, and would never end under a debugger that executes single instructions (`stepi`, `record full`,
//! a software watchpoint): each step aborts the section. As a miss it ends, because the slow paths of the engine need
//! no section: they go by depot and slabs where every section misses. Else a section is hardly ever aborted: a thread
//! is preempted a thousand times a second at the very most, and seldom within these few nanoseconds; a miss then costs
//! some hundred. And no register has to be what it was at the start, except those that belong to the caller.
//!
//! # What a section writes
//! Magazine words at or above the cursor, and the cursor, once, if it moves. It never stores a cursor back that it did
//! not move: a slot is enabled by another CPU without a fence, and a store of the old value would undo that.
//!
//! # Order of loads
//! A push loads `end` before `cursor`: an enabler
//! writes the cursor first, so who sees the new end sees the new cursor. x86 keeps loads in order, and stores in order.
//!
//! # Plain addresses
//! A push and the pop that follows it load what the other stored, the cursor and the object's word. Intel's cores since
//! Golden Cove hand such a value over without delay where both sides address it by one register and a constant, and
//! after some five cycles where an index is added. So the addresses are made before they are used, by an instruction
//! each: a pair of alloc and free of a typed cache takes 5.3 cycles there instead of 9.3, one of malloc and free 8.1
//! instead of 18.6.
//!
//! # Placement
//! Everything is `#[inline(always)]`, so a typed cache in a user's crate has its section in line. Labels are local
//! numbers, for an assembly that may be copied many times within a function. Descriptors are relocated data and
//! read-only afterwards. An object file with a section must stay mapped: the descriptor of a thread's last section is
//! read by the kernel at any later time, so a shared object with sections is linked with `-z nodelete`.
//!
//! The abort handler, after the signature that the kernel asks for, stands in the function itself, and the stack
//! pointer has the same value there as in the section. A profiler's signal that lands in a section finds the thread at
//! the handler, for the kernel aborts first; so the function's own unwind information serves there, and the caller is
//! found. A section in line jumps over its handler, which costs nothing that could be measured (a pair of a typed cache
//! takes 3.2 to 3.6 ns with it and without).
//!
//! The flavours differ in the table: here the published one, read inside the section; in [`given`] an argument, for
//! slow paths and tests; and [`given_by_id`] goes by concurrency id. Offsets in templates are constants in capitals, of
//! [`hot::at`].

pub mod entry;
pub(crate) mod fence;
pub mod hot;
pub(crate) mod ids;
pub mod thread_data;
mod x86_64;

use core::arch::asm;
use core::ptr::NonNull;

use kmem_core::percpu::SlotIndex;
use kmem_core::sync::AtomicPtr;

use crate::{__rseq_begin, __rseq_begin_by_id, __rseq_end};
use hot::{HOT, HOT_BY_ID, at};
use x86_64::sections;

/// Bytes of a slot: what templates multiply by.
pub const SLOT_BYTES: usize = 16;
const _: () = assert!(size_of::<kmem_core::percpu::Slot>() == SLOT_BYTES);
/// Where a slot's end is; its cursor comes first.
pub const END: usize = core::mem::offset_of!(kmem_core::percpu::Slot, end);
const _: () = assert!(core::mem::offset_of!(kmem_core::percpu::Slot, cursor) == 0);

// b = hot.in_line; a = b[a]
sections!(
    __rseq_begin,
    HOT,
    "mov {b}, qword ptr [rip + {hot} + {IN_LINE}]\nmov {a}, qword ptr [{b} + {a}*8]",
    OFFSET,
    RSEQ_CS,
    CPU_ID,
    IN_LINE
);

/// The same sections on a table that is an argument: the entry of its CPU 0.
pub mod given {
    use super::*;

    // a = table[a]
    sections!(
        __rseq_begin, HOT, "mov {a}, qword ptr [{table} + {a}*8]",
        [table: *const AtomicPtr<u8>], OFFSET, RSEQ_CS, CPU_ID
    );
}

/// The sections of [`given`] by concurrency id.
pub mod given_by_id {
    use super::*;

    // a = table[a]
    sections!(
        __rseq_begin_by_id, HOT_BY_ID, "mov {a}, qword ptr [{table} + {a}*8]",
        [table: *const AtomicPtr<u8>], OFFSET, RSEQ_CS, CPU_ID, MM_CID
    );
}
