//! The four sections in the instructions of arm64. [`rseq`](super) says what may stand in one, and why.
//!
//! # Order of loads
//! This processor keeps loads in order only where an address depends on what was loaded, or a load has acquire. A pop
//! follows addresses all the way: table, area, cursor, word. A push compares two words that do not lead to each other:
//! `end` is loaded with acquire, and the cursor after it. Stores need nothing: an object's word and the cursor are seen
//! by others only after a fence, or after a switch of threads on the CPU, and both are full barriers. So there is no
//! exclusive instruction and no barrier in any section.
//!
//! # Concurrency ids
//! What one run with an id committed, the next run with it must see. On x86-64 the order of stores is the argument.
//! Here it would have to be found in how the kernel hands ids on, and nobody has: so there are no sections by id, and
//! `KMEM_RSEQ=cid` is refused as on a kernel without ids.

use core::arch::asm;
use core::ptr::NonNull;

use kmem_core::percpu::SlotIndex;
use kmem_core::sync::{AtomicPtr, Ordering};

use super::hot::{HOT, at};
use super::{END, SLOT_BYTES};

/// Whether this processor has sections.
pub(crate) const SECTIONS: bool = true;
/// Whether it has sections by concurrency id.
pub(crate) const IDS: bool = false;

pub use super::missing::given as given_by_id;

/// From the offset of the rseq area in register `$a` to the CPU number in it; uses register `$t`. The range begins
/// after the bind.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_begin {
    ($a:literal, $t:literal) => {
        concat!(
            concat!("mrs ", $t, ", tpidr_el0\n"),
            concat!("add ", $t, ", ", $t, ", ", $a, "\n"), // t = the area
            concat!("adrp ", $a, ", 5f\n"),
            concat!("add ", $a, ", ", $a, ", :lo12:5f\n"), // a = &descriptor
            concat!("str ", $a, ", [", $t, ", #{RSEQ_CS}]\n"), // t.rseq_cs = a
            "3:\n",
            concat!("ldrsw ", $a, ", [", $t, ", #{CPU_ID}]\n"), // a = (i32) t.cpu_id
        )
    };
}

/// After the commit: the descriptor; `$leave`, which does not fall through; the signature and the abort handler,
/// `$miss`.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_end {
    ($leave:literal, $miss:literal) => {
        concat!(
            "4:\n",
            ".pushsection .data.rel.ro.kmem_rseq_cs,\"aw\",@progbits\n",
            ".balign 32\n",
            "5:\n",
            ".word 0, 0\n",             // version, flags
            ".xword 3b, 4b - 3b, 6f\n", // start, length, abort
            ".popsection\n",
            concat!($leave, "\n"),
            ".inst 0xd428bc00\n", // the signature, an instruction that traps
            "6:\n",
            concat!($miss, "\n"),
        )
    };
}

/// Defines the four sections over how the table gets into register `b`, beside the area's offset in `a`, or is an
/// argument.
macro_rules! sections {
    ($load:literal, $from:literal, $([$table:ident: $type:ty])? $($operand:ident)?) => {
        /// Takes the newest object of the slot of the CPU that the thread runs on; `None` is a miss.
        ///
        /// # Safety
        /// As for [`Sections::pop`](kmem_core::platform::Sections::pop), of the table in use.
        #[inline(always)]
        pub unsafe fn pop($($table: $type,)? slot: SlotIndex) -> Option<NonNull<u8>> {
            let word: usize;
            // SAFETY: the entry of any CPU number is an area with the slot (the caller; I3, I4); the word before a
            // cursor is readable, and even exactly if it is an object, which the commit makes ours (I7, I38).
            unsafe {
                asm!(
                    "adrp {a}, {hot}",
                    "add {a}, {a}, :lo12:{hot}",            // a = &hot
                    $load,                                  // a = hot.offset; b = hot.in_line
                    __rseq_begin!("{a}", "{t}"),            // a = number of the CPU
                    concat!("ldr {a}, [{", $from, "}, {a}, lsl #3]"), // a = table[a]: the area
                    "add {t}, {a}, {slot}",                 // t = &area.slot
                    "ldr {b}, [{t}]",                       // b = t.cursor
                    "add {a}, {a}, {b}",                    // a = area + b
                    "ldur {word}, [{a}, #-8]",              // word = a[-1]
                    "tbnz {word}, #0, 4f",                  // if (word & 1) leave: a miss
                    "sub {b}, {b}, #8",                     // b -= 8
                    "str {b}, [{t}]",                       // t.cursor = b: commit
                    __rseq_end!("b 25f", "mov {word}, #1\n25:"), // a miss: word = 1
                    a = out(reg) _, b = out(reg) _, t = out(reg) _, word = out(reg) word,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    $($table = in(reg) $table,)?
                    hot = sym HOT,
                    OFFSET = const at::OFFSET,
                    $($operand = const at::$operand,)?
                    RSEQ_CS = const at::RSEQ_CS,
                    CPU_ID = const at::CPU_ID,
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
            // SAFETY: as for `pop`; a cursor below the end names a word of the magazine that holds no object, and the
            // object is the caller's (I7).
            unsafe {
                asm!(
                    "adrp {a}, {hot}",
                    "add {a}, {a}, :lo12:{hot}",            // a = &hot
                    $load,                                  // a = hot.offset; b = hot.in_line
                    __rseq_begin!("{a}", "{t}"),            // a = number of the CPU
                    concat!("ldr {a}, [{", $from, "}, {a}, lsl #3]"), // a = table[a]: the area
                    "add {t}, {a}, {slot}",                 // t = &area.slot
                    "add {c}, {t}, #{END}",
                    "ldar {c}, [{c}]",                      // c = t.end, acquire
                    "ldr {b}, [{t}]",                       // b = t.cursor
                    "cmp {b}, {c}",                         // if (b >= c)
                    "b.hs 6f",                              //     miss
                    "str {object}, [{a}, {b}]",             // *(area + b) = object
                    "add {b}, {b}, #8",                     // b += 8
                    "str {b}, [{t}]",                       // t.cursor = b: commit
                    __rseq_end!("b 25f", "b {miss}\n25:"),
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, t = out(reg) _,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    object = in(reg) object.as_ptr(),
                    $($table = in(reg) $table,)?
                    hot = sym HOT,
                    END = const END,
                    OFFSET = const at::OFFSET,
                    $($operand = const at::$operand,)?
                    RSEQ_CS = const at::RSEQ_CS,
                    CPU_ID = const at::CPU_ID,
                    miss = label { return false },
                    options(nostack),
                );
            }
            true
        }

        /// Moves up to `out.len()` of the newest objects of the slot into `out`, the newest first, and returns how
        /// many.
        ///
        /// # Safety
        /// As for [`Sections::pop_batch`](kmem_core::platform::Sections::pop_batch), of the table in use.
        #[inline(always)]
        pub unsafe fn pop_batch($($table: $type,)? slot: SlotIndex, out: &mut [usize]) -> usize {
            let taken: usize;
            // SAFETY: as for `pop`, word by word; an odd word ends the walk at the latest before the magazine (I3).
            // `out` has room.
            unsafe {
                asm!(
                    "adrp {a}, {hot}",
                    "add {a}, {a}, :lo12:{hot}",            // a = &hot
                    $load,                                  // a = hot.offset; b = hot.in_line
                    __rseq_begin!("{a}", "{t}"),            // a = number of the CPU
                    concat!("ldr {a}, [{", $from, "}, {a}, lsl #3]"), // a = table[a]: the area
                    "add {t}, {a}, {slot}",                 // t = &area.slot
                    "ldr {b}, [{t}]",                       // b = t.cursor
                    "add {b}, {b}, {a}",                    // b += area
                    "mov {n}, #0",                          // n = 0: taken
                    "8:",                                   // for (;;) {
                    "cmp {n}, {len}",                       //     if (n == len)
                    "b.eq 9f",                              //         break
                    "ldur {c}, [{b}, #-8]",                 //     c = b[-1]
                    "tbnz {c}, #0, 9f",                     //     if (c & 1) break
                    "str {c}, [{out}, {n}, lsl #3]",        //     out[n] = c
                    "sub {b}, {b}, #8",                     //     b -= 1 word
                    "add {n}, {n}, #1",                     //     n += 1
                    "b 8b",                                 // }
                    "9:",
                    "cbz {n}, 4f",                          // if (n == 0) leave: a miss
                    "sub {b}, {b}, {a}",                    // b -= area
                    "str {b}, [{t}]",                       // t.cursor = b: commit
                    __rseq_end!("b 25f", "mov {n}, #0\n25:"), // a miss: n = 0
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, t = out(reg) _, n = out(reg) taken,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    out = in(reg) out.as_mut_ptr(),
                    len = in(reg) out.len(),
                    $($table = in(reg) $table,)?
                    hot = sym HOT,
                    OFFSET = const at::OFFSET,
                    $($operand = const at::$operand,)?
                    RSEQ_CS = const at::RSEQ_CS,
                    CPU_ID = const at::CPU_ID,
                    options(nostack),
                );
            }
            taken
        }

        /// Moves the first of `objects` into the slot, as many as fit, and returns how many.
        ///
        /// # Safety
        /// As for [`Sections::push_batch`](kmem_core::platform::Sections::push_batch), of the table in use.
        #[inline(always)]
        pub unsafe fn push_batch($($table: $type,)? slot: SlotIndex, objects: &[usize]) -> usize {
            let put: usize;
            // SAFETY: as for `push`, word by word: as many as stand between cursor and end, and no more than there are
            // objects.
            unsafe {
                asm!(
                    "adrp {a}, {hot}",
                    "add {a}, {a}, :lo12:{hot}",            // a = &hot
                    $load,                                  // a = hot.offset; b = hot.in_line
                    __rseq_begin!("{a}", "{t}"),            // a = number of the CPU
                    concat!("ldr {a}, [{", $from, "}, {a}, lsl #3]"), // a = table[a]: the area
                    "add {t}, {a}, {slot}",                 // t = &area.slot
                    "add {c}, {t}, #{END}",
                    "ldar {c}, [{c}]",                      // c = t.end, acquire
                    "ldr {b}, [{t}]",                       // b = t.cursor
                    "mov {n}, #0",                          // n = 0: put
                    "subs {c}, {c}, {b}",                   // c -= b
                    "b.ls 4f",                              // if (c <= 0) leave: a miss
                    "lsr {c}, {c}, #3",                     // c /= 8: words of room
                    "cmp {c}, {len}",                       // if (c > len)
                    "csel {c}, {c}, {len}, lo",             //     c = len
                    "cbz {c}, 4f",                          // if (c == 0) leave: a miss
                    "add {b}, {b}, {a}",                    // b += area
                    "8:",                                   // for (;;) {
                    "ldr {d}, [{objects}, {n}, lsl #3]",    //     d = objects[n]
                    "str {d}, [{b}, {n}, lsl #3]",          //     b[n] = d
                    "add {n}, {n}, #1",                     //     n += 1
                    "cmp {n}, {c}",                         //     if (n == c)
                    "b.ne 8b",                              //         break }
                    "sub {b}, {b}, {a}",                    // b -= area
                    "add {b}, {b}, {n}, lsl #3",            // b += n words
                    "str {b}, [{t}]",                       // t.cursor = b: commit
                    __rseq_end!("b 25f", "mov {n}, #0\n25:"), // a miss: n = 0
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, t = out(reg) _, n = out(reg) put,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    objects = in(reg) objects.as_ptr(),
                    len = in(reg) objects.len(),
                    $($table = in(reg) $table,)?
                    hot = sym HOT,
                    END = const END,
                    OFFSET = const at::OFFSET,
                    $($operand = const at::$operand,)?
                    RSEQ_CS = const at::RSEQ_CS,
                    CPU_ID = const at::CPU_ID,
                    options(nostack),
                );
            }
            put
        }
    };
}

sections!("ldr {b}, [{a}, #{IN_LINE}]\nldr {a}, [{a}, #{OFFSET}]", "b", IN_LINE);

/// The same sections on a table that is an argument: the entry of its CPU 0.
pub mod given {
    use super::*;

    sections!("ldr {a}, [{a}, #{OFFSET}]", "table", [table: *const AtomicPtr<u8>]);
}

/// The CPU that the calling thread last was on, by the area that sections use; out of range where it is not registered
/// (I4, I5). Called after `use_area`.
#[inline]
pub fn current_cpu() -> usize {
    // SAFETY: the caller's order of events.
    unsafe { HOT.area() }.cpu_id.load(Ordering::Relaxed) as i32 as usize
}
