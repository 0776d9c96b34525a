//! The four sections as restartable sequences.
//!
//! # How a restartable sequence works
//! Each thread shares an area of 32 bytes with the kernel. The kernel keeps the number of the CPU that the thread runs
//! on there; the thread stores the address of a descriptor there, which says 'from `start`, for `length` bytes, I am in
//! a section; its end is `abort`'. If the thread is preempted, moved to another CPU, gets a signal or is fenced while
//! its instruction pointer is in that range, it goes on at `abort`. The last instruction of the range is the commit. So
//! between `start` and the commit the thread owns its CPU's slot, or the section is over; a section that did not commit
//! leaves no trace (a word that it wrote at or above the cursor is nobody's).
//!
//! ```text
//! 2:  area = thread pointer + offset
//!     area.rseq_cs = &descriptor                  bind
//! 3:  cpu = area.cpu_id (sign extended)           start
//!     slots = TABLE[cpu]                          entries -1 and -2: a thread that is not registered has the empty area (I3)
//!     ... load, test: a miss leaves, without a store ...
//!     slots.cursor = new                          commit
//! 4:  leave
//!     signature
//! 6:  a miss                                      here an aborted section goes on
//! ```
//! `start` stands right behind the store that binds: preempted before the store, nothing is bound; behind it, the
//! section aborts. Nothing is unbound after the commit: the kernel does so by itself when it finds the thread outside
//! of the range.
//!
//! A thread that is not registered is never aborted: its number stays -1 (or -2), so it misses.
//!
//! # An aborted section is a miss
//! It could begin anew, and would never end under a debugger that executes single instructions (`stepi`, `record full`,
//! a software watchpoint): each step aborts the section. As a miss it ends, because the slow paths of the engine need no section: they go by depot and slabs
//! where every section misses. Else a section is hardly ever aborted: a thread is preempted a thousand times a second at
//! the very most, and seldom within these few nanoseconds; a miss then costs some hundred. And no register has to be what
//! it was at the start, except those that belong to the caller.
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
//! read-only afterwards. Whoever contains a section must stay mapped: the descriptor of a thread's last section is read by
//! the kernel at any later time, so a shared object with sections is linked with `-z nodelete`.
//!
//! The abort handler, after the signature that the kernel asks for, stands in the function itself, and the stack pointer
//! has the same value there as in the section. A profiler's signal that lands in a section finds the thread at the handler, for the
//! kernel aborts first; so the function's own unwind information serves there, and the caller is found. A section in line
//! jumps over its handler, which costs nothing that could be measured (a pair of a typed cache takes 3.2 to 3.6 ns with it
//! and without).
//!
//! The flavours differ in the table: here the published one, read inside the section; in [`given`] an argument, for slow
//! paths and tests; and [`given_by_id`] goes by concurrency id. Offsets in templates are constants in capitals, of
//! [`hot::at`](super::hot::at).

use core::arch::asm;
use core::ptr::NonNull;

use kmem_core::percpu::SlotIndex;
use kmem_core::sync::AtomicPtr;

use super::hot::{HOT, HOT_BY_ID, at};

/// The bind: the rseq area's offset in register `$a`, uses register `$b`; the range begins after it.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_bind {
    ($a:literal, $b:literal) => {
        concat!(
            "2:\n",
            concat!("mov ", $a, ", qword ptr [rip + {hot} + {OFFSET}]\n"), // a = hot.offset
            concat!("lea ", $b, ", [rip + 5f]\n"),                         // b = &descriptor
            concat!("mov qword ptr fs:[", $a, " + {RSEQ_CS}], ", $b, "\n"), // area.rseq_cs = b
            "3:\n",
        )
    };
}

/// From the bind to the CPU number in register `$a`; uses register `$b`. Operand `hot`: [`HOT`].
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_begin {
    ($a:literal, $b:literal) => {
        concat!(
            $crate::__rseq_bind!($a, $b),
            concat!("movsxd ", $a, ", dword ptr fs:[", $a, " + {CPU_ID}]\n"), // a = (i32) area.cpu_id
        )
    };
}

/// The same by concurrency id: the id in register `$a`. A thread whose CPU number is negative is not registered, and its
/// id reads 0, which is somebody else's (see [`ids`](super::ids)): that is a miss. Operand `hot`: [`HOT_BY_ID`].
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_begin_by_id {
    ($a:literal, $b:literal) => {
        concat!(
            $crate::__rseq_bind!($a, $b),
            concat!("movsxd ", $b, ", dword ptr fs:[", $a, " + {CPU_ID}]\n"), // b = (i32) area.cpu_id
            concat!("movsxd ", $a, ", dword ptr fs:[", $a, " + {MM_CID}]\n"), // a = area.mm_cid
            concat!("test ", $b, ", ", $b, "\n"),                             // if (b < 0)
            "js 6f\n",                                                        //     miss
        )
    };
}

/// After the commit: the descriptor; `$leave`, which does not fall through; the signature and the abort handler, `$miss`.
#[doc(hidden)]
#[macro_export]
macro_rules! __rseq_end {
    ($leave:literal, $miss:literal) => {
        concat!(
            "4:\n",
            ".pushsection .data.rel.ro.kmem_rseq_cs,\"aw\",@progbits\n",
            ".balign 32\n",
            "5:\n",
            ".long 0, 0\n",            // version, flags
            ".quad 3b, 4b - 3b, 6f\n", // start, length, abort
            ".popsection\n",
            concat!($leave, "\n"),
            ".byte 0x0f, 0xb9, 0x3d\n", // an instruction that traps, and holds
            ".long 0x53053053\n",       //     the signature
            "6:\n",
            concat!($miss, "\n"),
        )
    };
}

/// Bytes of a slot: what templates multiply by.
pub const SLOT_BYTES: usize = 16;
const _: () = assert!(size_of::<kmem_core::percpu::Slot>() == SLOT_BYTES);
/// Where a slot's end is; its cursor comes first.
pub const END: usize = core::mem::offset_of!(kmem_core::percpu::Slot, end);
const _: () = assert!(core::mem::offset_of!(kmem_core::percpu::Slot, cursor) == 0);

/// Defines the four sections over how they begin, the words that they go by, how they get to the area (`$load`, from the
/// number in `a` to the area's address there), and what else those need.
macro_rules! sections {
    ($begin:ident, $hot:ident, $load:literal, $([$table:ident: $type:ty],)? $($at:ident),*) => {
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
                    "lea {c}, [{a} + {slot}]",              // c = &area.slot
                    "mov {b}, qword ptr [{c}]",             // b = c.cursor
                    "add {a}, {b}",                         // a = area + b
                    "mov {word}, qword ptr [{a} - 8]",      // word = a[-1]
                    "test {word:l}, 1",                     // if (word & 1)
                    "jnz 4f",                               //     leave: a miss
                    "add {b}, -8",                          // b -= 8
                    "mov qword ptr [{c}], {b}",             // c.cursor = b: commit
                    __rseq_end!("jmp 25f", "mov {word:e}, 1\n25:"), // a miss: word = 1
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, word = out(reg) word,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    $($at = const at::$at,)*
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
                    "lea {d}, [{a} + {slot}]",              // d = &area.slot
                    "mov {c}, qword ptr [{d} + {END}]",     // c = d.end
                    "mov {b}, qword ptr [{d}]",             // b = d.cursor
                    "cmp {b}, {c}",                         // if (b >= c)
                    "jae {miss}",                           //     miss
                    "add {a}, {b}",                         // a = area + b
                    "mov qword ptr [{a}], {object}",        // *a = object
                    "add {b}, 8",                           // b += 8
                    "mov qword ptr [{d}], {b}",             // d.cursor = b: commit
                    __rseq_end!("jmp 25f", "jmp {miss}\n25:"),
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    object = in(reg) object.as_ptr(),
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    END = const END,
                    $($at = const at::$at,)*
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
                    "mov {b}, qword ptr [{a} + {slot}]",            // b = area.slot.cursor
                    "add {b}, {a}",                                 // b += area
                    "xor {n:e}, {n:e}",                             // n = 0: taken
                    "mov {w:e}, 4",                                 // w = 4: n + 4
                    "7:",                                           // for (;;) {
                    "cmp {w}, {len}",                               //     if (w > len)
                    "ja 8f",                                        //         break
                    "mov {c}, qword ptr [{b} - 8]",                 //     c = b[-1]
                    "mov {d}, qword ptr [{b} - 16]",                //     d = b[-2]
                    "mov qword ptr [{out} + {n}*8], {c}",           //     out[n] = c
                    "mov qword ptr [{out} + {n}*8 + 8], {d}",       //     out[n + 1] = d
                    "or {c:e}, {d:e}",                              //     c |= d
                    "mov {d}, qword ptr [{b} - 24]",                //     d = b[-3]
                    "mov qword ptr [{out} + {n}*8 + 16], {d}",      //     out[n + 2] = d
                    "or {c:e}, {d:e}",                              //     c |= d
                    "mov {d}, qword ptr [{b} - 32]",                //     d = b[-4]
                    "mov qword ptr [{out} + {n}*8 + 24], {d}",      //     out[n + 3] = d
                    "or {c:e}, {d:e}",                              //     c |= d
                    "test {c:l}, 1",                                //     if (c & 1)
                    "jnz 8f",                                       //         break: one of them is a mark
                    "add {b}, -32",                                 //     b -= 4 words
                    "mov {n}, {w}",                                 //     n = w
                    "add {w}, 4",                                   //     w += 4
                    "jmp 7b",                                       // }
                    "8:",                                           // for (;;) {
                    "cmp {n}, {len}",                               //     if (n == len)
                    "je 9f",                                        //         break
                    "mov {c}, qword ptr [{b} - 8]",                 //     c = b[-1]
                    "test {c:l}, 1",                                //     if (c & 1)
                    "jnz 9f",                                       //         break
                    "mov qword ptr [{out} + {n}*8], {c}",           //     out[n] = c
                    "add {b}, -8",                                  //     b -= 1 word
                    "inc {n}",                                      //     n += 1
                    "jmp 8b",                                       // }
                    "9:",
                    "test {n}, {n}",                                // if (n == 0)
                    "jz 4f",                                        //     leave: a miss
                    "sub {b}, {a}",                                 // b -= area
                    "mov qword ptr [{a} + {slot}], {b}",            // area.slot.cursor = b: commit
                    __rseq_end!("jmp 25f", "xor {n:e}, {n:e}\n25:"), // a miss: n = 0
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, w = out(reg) _, n = out(reg) taken,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    out = in(reg) out.as_mut_ptr(),
                    len = in(reg) out.len(),
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    $($at = const at::$at,)*
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
                    "mov {c}, qword ptr [{a} + {slot} + {END}]",            // c = area.slot.end
                    "mov {b}, qword ptr [{a} + {slot}]",                    // b = area.slot.cursor
                    "xor {n:e}, {n:e}",                                     // n = 0: put
                    "sub {c}, {b}",                                         // c -= b
                    "jbe 4f",                                               // if (c <= 0) leave: a miss
                    "shr {c}, 3",                                           // c /= 8: words of room
                    "cmp {c}, {len}",                                       // if (c > len)
                    "cmova {c}, {len}",                                     //     c = len
                    "test {c}, {c}",                                        // if (c == 0)
                    "jz 4f",                                                //     leave: a miss
                    "add {b}, {a}",                                         // b += area
                    "mov {d:e}, 4",                                         // d = 4: n + 4
                    "7:",                                                   // for (;;) {
                    "cmp {d}, {c}",                                         //     if (d > c)
                    "ja 8f",                                                //         break
                    "movdqu {x}, xmmword ptr [{objects} + {n}*8]",          //     x = objects[n..n + 2]
                    "movdqu {y}, xmmword ptr [{objects} + {n}*8 + 16]",     //     y = objects[n + 2..n + 4]
                    "movdqu xmmword ptr [{b} + {n}*8], {x}",                //     b[n..n + 2] = x
                    "movdqu xmmword ptr [{b} + {n}*8 + 16], {y}",           //     b[n + 2..n + 4] = y
                    "mov {n}, {d}",                                         //     n = d
                    "add {d}, 4",                                           //     d += 4
                    "jmp 7b",                                               // }
                    "8:",                                                   // for (;;) {
                    "cmp {n}, {c}",                                         //     if (n == c)
                    "je 9f",                                                //         break
                    "mov {d}, qword ptr [{objects} + {n}*8]",               //     d = objects[n]
                    "mov qword ptr [{b} + {n}*8], {d}",                     //     b[n] = d
                    "inc {n}",                                              //     n += 1
                    "jmp 8b",                                               // }
                    "9:",
                    "sub {b}, {a}",                                         // b -= area
                    "lea {b}, [{b} + {n}*8]",                               // b += n words
                    "mov qword ptr [{a} + {slot}], {b}",                    // area.slot.cursor = b: commit
                    __rseq_end!("jmp 25f", "xor {n:e}, {n:e}\n25:"),        // a miss: n = 0
                    a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, n = out(reg) put,
                    x = out(xmm_reg) _, y = out(xmm_reg) _,
                    slot = in(reg) slot.0 as usize * SLOT_BYTES,
                    objects = in(reg) objects.as_ptr(),
                    len = in(reg) objects.len(),
                    $($table = in(reg) $table,)?
                    hot = sym $hot,
                    END = const END,
                    $($at = const at::$at,)*
                    options(nostack),
                );
            }
            put
        }
    };
}

// b = hot.table; a = b[a]
sections!(
    __rseq_begin,
    HOT,
    "mov {b}, qword ptr [rip + {hot} + {TABLE}]\nmov {a}, qword ptr [{b} + {a}*8]",
    OFFSET,
    RSEQ_CS,
    CPU_ID,
    TABLE
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
