//! The four sections in the instructions of x86-64. [`rseq`](super) says what may stand in one, and why.

use core::arch::asm;
use core::ptr::NonNull;

use kmem_core::percpu::SlotIndex;
use kmem_core::sync::AtomicPtr;

use super::hot::{HOT, HOT_BY_ID, at};
use super::{END, SLOT_BYTES};

/// Whether this processor has sections.
pub(crate) const SECTIONS: bool = true;
/// Whether it has sections by concurrency id.
pub(crate) const IDS: bool = true;

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

/// From the bind to the CPU number in register `$a`; uses register `$b`. Operand `hot`: [`HOT`](crate::rseq::hot::HOT).
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

/// The same by concurrency id: the id in register `$a`. A thread whose CPU number is negative is not registered, and
/// its id reads 0, which is another thread's (see `ids`): that is a miss. Operand `hot`:
/// [`HOT_BY_ID`](crate::rseq::hot::HOT_BY_ID).
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

/// Defines the four sections over how they begin, the words that they go by, how they get to the area (`$load`, from
/// the number in `a` to the area's address there), and what else those need.
macro_rules! sections {
    ($begin:ident, $hot:ident, $load:literal, $([$table:ident: $type:ty],)? $($at:ident),*) => {
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
            // SAFETY: as for `pop`; a cursor below the end names a word of the magazine that holds no object, and the
            // object is the caller's (I7).
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

        /// Moves up to `out.len()` of the newest objects of the slot into `out`, the newest first, and returns how
        /// many.
        ///
        /// # Safety
        /// As for [`Sections::pop_batch`](kmem_core::platform::Sections::pop_batch), of the table in use.
        #[inline(always)]
        pub unsafe fn pop_batch($($table: $type,)? slot: SlotIndex, out: &mut [usize]) -> usize {
            let taken: usize;
            // SAFETY: as for `pop`, word by word; an odd word ends the walk at the latest before the magazine (I3), and
            // four words before it can be read (`Area::enable`). `out` has room: four words are written where four fit.
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
