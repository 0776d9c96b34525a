//! The four sections as restartable sequences.
//!
//! # How a restartable sequence works
//! Each thread shares an area of 32 bytes with the kernel. The kernel keeps the number of the CPU that the thread runs
//! on there; the thread stores the address of a descriptor there, which says 'from `start`, for `length` bytes, I am in
//! a section; its end is `abort`'. If the thread is preempted, moved to another CPU, gets a signal or is fenced while
//! its instruction pointer is in that range, it goes on at `abort`. The last instruction of the range is the commit. So
//! between `start` and the commit the thread owns its CPU's slot, or it begins anew; a section that did not commit
//! leaves no trace (a word that it wrote at or above the cursor is nobody's).
//!
//! ```text
//! 2:  area = thread pointer + offset              here an aborted section begins anew
//!     area.rseq_cs = &descriptor                  bind
//! 3:  cpu = area.cpu_id (sign extended)           start
//!     slots = TABLE[cpu]                          entries -1 and -2: a thread that is not registered has the empty area (I3)
//!     ... load, test: a miss jumps behind 4, without a store ...
//!     slots.cursor = new                          commit
//! 4:
//! ```
//! `start` stands right behind the store that binds: preempted before the store, nothing is bound; behind it, the
//! section aborts. Nothing is unbound after the commit: the kernel does so by itself when it finds the thread outside
//! of the range.
//!
//! A thread that is not registered is never aborted and never in a loop: its number stays -1 (or -2), so it misses.
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
//! A push and the pop that follows it load what the other stored, the cursor and the object's word. Intel's cores since Golden
//! Cove hand such a value over without delay where both sides address it by one register and a constant, and after some
//! five cycles where an index is added. So the addresses are made before they are used, by an instruction each: a pair of
//! alloc and free of a typed cache takes 5.3 cycles there instead of 9.3, one of malloc and free 8.1 instead of 18.6.
//!
//! # Placement
//! Everything is `#[inline(always)]`, so a typed cache in a user's crate has its section in line. Labels are local
//! numbers, for an assembly that may be copied many times within a function. Descriptors are relocated data and
//! read-only afterwards. Abort handlers stand in a section of their own, each behind the signature that the kernel asks
//! for. Whoever contains a section must stay mapped: the descriptor of a thread's last section is read by the kernel at
//! any later time, so a shared object with sections is linked with `-z nodelete`.
//!
//! The flavours differ in the table: here the published one, read inside the section; in [`given`] an argument, for slow
//! paths and tests; and [`given_by_id`] goes by concurrency id. A debugger that steps through a section by single
//! instructions aborts it at each step: set a breakpoint behind it.

use core::arch::asm;
use core::ptr::NonNull;

use kmem_core::percpu::SlotIndex;
use kmem_core::sync::AtomicPtr;

use super::hot::{HOT, HOT_BY_ID};

/// The bind: the rseq area's offset in register `$a`, uses register `$b`; the range begins behind it.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_bind {
    ($a:literal, $b:literal) => {
        concat!(
            "2:\n",
            concat!("mov ", $a, ", qword ptr [rip + {hot}]\n"),
            concat!("lea ", $b, ", [rip + 5f]\n"),
            concat!("mov qword ptr fs:[", $a, " + 8], ", $b, "\n"),
            "3:\n",
        )
    };
}

/// From the bind to the CPU number in register `$a`; uses register `$b`. Operand `hot`: [`HOT`].
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_begin {
    ($a:literal, $b:literal) => {
        concat!($crate::__rseq_bind!($a, $b), concat!("movsxd ", $a, ", dword ptr fs:[", $a, " + 4]\n"),)
    };
}

/// The same by concurrency id: the id in register `$a`, or the CPU number where that is negative (the thread is not
/// registered, and its id reads 0, which is somebody else's; see [`ids`](super::ids)). Operand `hot`: [`HOT_BY_ID`].
///
/// That is a jump that is hardly ever taken, so that no load waits for the comparison. It leaves the range and comes back:
/// a thread that goes there is not registered, and no range protects it in any case.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_begin_by_id {
    ($a:literal, $b:literal) => {
        concat!(
            $crate::__rseq_bind!($a, $b),
            concat!("movsxd ", $b, ", dword ptr fs:[", $a, " + 4]\n"),
            concat!("movsxd ", $a, ", dword ptr fs:[", $a, " + 24]\n"),
            concat!("test ", $b, ", ", $b, "\n"),
            "js 22f\n",
            "23:\n",
            ".pushsection .text.kmem_rseq_abort,\"ax\",@progbits\n",
            "22:\n",
            concat!("mov ", $a, ", ", $b, "\n"),
            "jmp 23b\n",
            ".popsection\n",
        )
    };
}

/// Behind the commit: the descriptor, and the abort handler behind its signature.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_end {
    () => {
        concat!(
            "4:\n",
            ".pushsection .data.rel.ro.kmem_rseq_cs,\"aw\",@progbits\n",
            ".balign 32\n",
            "5:\n",
            ".long 0, 0\n",
            ".quad 3b, 4b - 3b, 6f\n",
            ".popsection\n",
            ".pushsection .text.kmem_rseq_abort,\"ax\",@progbits\n",
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long 0x53053053\n",
            "6:\n",
            "jmp 2b\n",
            ".popsection\n",
        )
    };
}

/// Bytes of a slot: what templates multiply by.
pub const SLOT_BYTES: usize = 16;
const _: () = assert!(size_of::<kmem_core::percpu::Slot>() == SLOT_BYTES);

/// Defines the four sections over how they begin, the words that they go by, and a way to reach the area.
macro_rules! sections {
    ($begin:ident, $hot:ident, $load:literal $(, $table:ident: $type:ty)?) => {
        /// Takes the newest object of the slot of the CPU that the thread runs on; `None` is a miss.
        ///
        /// # Safety
        /// As for [`Sections::pop`](kmem_core::platform::Sections::pop), of the table in use.
        #[inline(always)]
        pub unsafe fn pop($($table: $type,)? slot: SlotIndex) -> Option<NonNull<u8>> {
            let word: usize;
            // SAFETY: the entry of any CPU number is an area with the slot (the caller; I3, I4); the word before a cursor is readable, and
            // even exactly if it is an object, which the commit makes ours (I7, I38).
            unsafe {
                asm!(
                    concat!($begin!("{a}", "{b}"), $load),
                    "lea {c}, [{a} + {slot}]",
                    "mov {b}, qword ptr [{c}]",
                    "add {a}, {b}",
                    "mov {word}, qword ptr [{a} - 8]",
                    "test {word:l}, 1",
                    "jnz 4f",
                    "add {b}, -8",
                    "mov qword ptr [{c}], {b}",
                    __rseq_end!(),
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, word = out(reg) word,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    options(nostack),
                );
                // An object's address is not 0: said, so that the hit is not tested for it.
                core::hint::assert_unchecked(word != 0);
                if word & 1 == 0 { Some(NonNull::new_unchecked(word as *mut u8)) } else { None }
            }
        }

        /// Puts `object` into the slot of the CPU that the thread runs on; `false` is a miss.
        ///
        /// # Safety
        /// As for [`Sections::push`](kmem_core::platform::Sections::push), of the table in use.
        #[inline(always)]
        pub unsafe fn push($($table: $type,)? slot: SlotIndex, object: NonNull<u8>) -> bool {
            // SAFETY: as for `pop`; a cursor below the end names a word of the magazine that is nobody's, and the object is the caller's (I7).
            unsafe {
                asm!(
                    concat!($begin!("{a}", "{b}"), $load),
                    "lea {d}, [{a} + {slot}]",
                    "mov {c}, qword ptr [{d} + 8]",
                    "mov {b}, qword ptr [{d}]",
                    "cmp {b}, {c}",
                    "jae {miss}",
                    "add {a}, {b}",
                    "mov qword ptr [{a}], {object}",
                    "add {b}, 8",
                    "mov qword ptr [{d}], {b}",
                    __rseq_end!(),
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    object = in(reg) object.as_ptr(),
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    miss = label { return false },
                    options(nostack),
                );
            }
            true
        }

        /// Moves up to `out.len()` of the newest objects of the slot into `out`, the newest first, and answers how many.
        ///
        /// # Safety
        /// As for [`Sections::pop_batch`](kmem_core::platform::Sections::pop_batch), of the table in use.
        #[inline(always)]
        pub unsafe fn pop_batch($($table: $type,)? slot: SlotIndex, out: &mut [usize]) -> usize {
            let taken: usize;
            // SAFETY: as for `pop`, word by word; an odd word ends the walk at the latest before the magazine (I3), and four words
            // before it can be read (`Area::enable`). `out` has room: four words are written where four fit.
            unsafe {
                asm!(
                    concat!($begin!("{a}", "{b}"), $load),
                    "mov {b}, qword ptr [{a} + {slot}]",
                    "add {b}, {a}",
                    "xor {n:e}, {n:e}",
                    "mov {w:e}, 4",
                    "7:",
                    "cmp {w}, {len}",
                    "ja 8f",
                    "mov {c}, qword ptr [{b} - 8]",
                    "mov {d}, qword ptr [{b} - 16]",
                    "mov qword ptr [{out} + {n}*8], {c}",
                    "mov qword ptr [{out} + {n}*8 + 8], {d}",
                    "or {c:e}, {d:e}",
                    "mov {d}, qword ptr [{b} - 24]",
                    "mov qword ptr [{out} + {n}*8 + 16], {d}",
                    "or {c:e}, {d:e}",
                    "mov {d}, qword ptr [{b} - 32]",
                    "mov qword ptr [{out} + {n}*8 + 24], {d}",
                    "or {c:e}, {d:e}",
                    "test {c:l}, 1",
                    "jnz 8f",
                    "add {b}, -32",
                    "mov {n}, {w}",
                    "add {w}, 4",
                    "jmp 7b",
                    "8:",
                    "cmp {n}, {len}",
                    "je 9f",
                    "mov {c}, qword ptr [{b} - 8]",
                    "test {c:l}, 1",
                    "jnz 9f",
                    "mov qword ptr [{out} + {n}*8], {c}",
                    "add {b}, -8",
                    "inc {n}",
                    "jmp 8b",
                    "9:",
                    "test {n}, {n}",
                    "jz 4f",
                    "sub {b}, {a}",
                    "mov qword ptr [{a} + {slot}], {b}",
                    __rseq_end!(),
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, w = out(reg) _, n = out(reg) taken,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    out = in(reg) out.as_mut_ptr(),
                    len = in(reg) out.len(),
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    options(nostack),
                );
            }
            taken
        }

        /// Moves the first of `objects` into the slot, as many as fit, and answers how many.
        ///
        /// # Safety
        /// As for [`Sections::push_batch`](kmem_core::platform::Sections::push_batch), of the table in use.
        #[inline(always)]
        pub unsafe fn push_batch($($table: $type,)? slot: SlotIndex, objects: &[usize]) -> usize {
            let put: usize;
            // SAFETY: as for `push`, word by word: as many as stand between cursor and end, and no more than there are objects.
            unsafe {
                asm!(
                    concat!($begin!("{a}", "{b}"), $load),
                    "mov {c}, qword ptr [{a} + {slot} + 8]",
                    "mov {b}, qword ptr [{a} + {slot}]",
                    "xor {n:e}, {n:e}",
                    "sub {c}, {b}",
                    "jbe 4f",
                    "shr {c}, 3",
                    "cmp {c}, {len}",
                    "cmova {c}, {len}",
                    "test {c}, {c}",
                    "jz 4f",
                    "add {b}, {a}",
                    "mov {d:e}, 4",
                    "7:",
                    "cmp {d}, {c}",
                    "ja 8f",
                    "movdqu {x}, xmmword ptr [{objects} + {n}*8]",
                    "movdqu {y}, xmmword ptr [{objects} + {n}*8 + 16]",
                    "movdqu xmmword ptr [{b} + {n}*8], {x}",
                    "movdqu xmmword ptr [{b} + {n}*8 + 16], {y}",
                    "mov {n}, {d}",
                    "add {d}, 4",
                    "jmp 7b",
                    "8:",
                    "cmp {n}, {c}",
                    "je 9f",
                    "mov {d}, qword ptr [{objects} + {n}*8]",
                    "mov qword ptr [{b} + {n}*8], {d}",
                    "inc {n}",
                    "jmp 8b",
                    "9:",
                    "sub {b}, {a}",
                    "lea {b}, [{b} + {n}*8]",
                    "mov qword ptr [{a} + {slot}], {b}",
                    __rseq_end!(),
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, n = out(reg) put,
                    x = out(xmm_reg) _, y = out(xmm_reg) _,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    objects = in(reg) objects.as_ptr(),
                    len = in(reg) objects.len(),
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    options(nostack),
                );
            }
            put
        }
    };
}

sections!(__rseq_begin, HOT, "mov {b}, qword ptr [rip + {hot} + 8]\nmov {a}, qword ptr [{b} + {a}*8]");

/// The same sections on a table that is an argument: the entry of its CPU 0.
pub mod given {
    use super::*;

    sections!(__rseq_begin, HOT, "mov {a}, qword ptr [{table} + {a}*8]", table: *const AtomicPtr<u8>);
}

/// The sections of [`given`] by concurrency id.
pub mod given_by_id {
    use super::*;

    sections!(__rseq_begin_by_id, HOT_BY_ID, "mov {a}, qword ptr [{table} + {a}*8]", table: *const AtomicPtr<u8>);
}
