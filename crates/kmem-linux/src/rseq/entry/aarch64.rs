//! malloc and free in the instructions of arm64.
//!
//! Before publication `small` and `general` are 0. Here a load that follows a test may be made before it, so both are
//! loaded with acquire: who sees one of them sees the table and the offset too. That costs no instruction where the
//! word stands first in [`Hot`](crate::rseq::hot::Hot). `free` needs nothing of the kind: an address that it finds in
//! the window came from an engine that was published, by whatever made it known to this thread.
//!
//! No memory is asked for ahead, as it is on x86-64: what that gains here was not measured.
//!
//! A conditional branch does not reach far, and no linker helps it on. So a miss jumps to the abort handler, which
//! jumps to `slow`.

use crate::rseq::hot::at;

// What the templates count on: `ldar` takes no displacement, and `ldp` loads neighbours.
const _: () = assert!(at::SMALL == 0 && at::TABLE == at::OFFSET + 8 && at::GRANULES == at::FIRST + 8);

/// The body of a naked function `(size) -> address` that jumps to `$slow`, a function of the same signature, where it
/// cannot serve.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc {
    ($slow:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "adrp x9, {hot}",
            "add x9, x9, :lo12:{hot}",              // x9 = &hot
            "ldar x10, [x9]",                       // x10 = hot.small, acquire
            "cmp x0, x10",                          // if (size >= x10)
            "b.hs 7f",                              //     goto 7
            "add x11, x0, #15",                     // x11 = size + 15
            "lsr x11, x11, #4",                     // x11 /= 16
            "adrp x12, {fine}",
            "add x12, x12, :lo12:{fine}",           // x12 = FINE
            "ldrb w11, [x12, x11]",                 // x11 = x12[x11]: the class, times CLASS_STEP
            "2:",
            "ldp x12, x13, [x9, #{OFFSET}]",        // x12 = hot.offset; x13 = hot.table
            $crate::__rseq_begin!("x12", "x14"),    // x12 = number of the CPU
            "ldr x12, [x13, x12, lsl #3]",          // x12 = x13[x12]: the area
            "add x13, x12, x11, lsl #3",            // x13 = &area.slot
            "ldr x14, [x13]",                       // x14 = x13.cursor
            "add x12, x12, x14",                    // x12 = area + x14
            "ldur x15, [x12, #-8]",                 // x15 = x12[-1]: the newest object
            "tbnz x15, #0, 6f",                     // if (x15 & 1) miss
            "sub x14, x14, #8",                     // x14 -= 8
            "str x14, [x13]",                       // x13.cursor = x14: commit
            $crate::__rseq_end!("mov x0, x15\nret", "b {slow}"), // return x15
            "7:",
            "add x10, x9, #{GENERAL}",
            "ldar x10, [x10]",                      // x10 = hot.general, acquire
            "cmp x0, x10",                          // if (size >= x10)
            "b.hs 6b",                              //     miss
            "add x11, x0, #127",                    // x11 = size + 127
            "lsr x11, x11, #7",                     // x11 /= 128
            "adrp x12, {coarse}",
            "add x12, x12, :lo12:{coarse}",         // x12 = COARSE
            "ldrb w11, [x12, x11]",                 // x11 = x12[x11]
            "b 2b",
            ".p2align 6",
            ".cfi_endproc",
            fine = sym $crate::rseq::entry::FINE,
            coarse = sym $crate::rseq::entry::COARSE,
            hot = sym $crate::rseq::hot::HOT,
            slow = sym $slow,
            OFFSET = const $crate::rseq::hot::at::OFFSET,
            GENERAL = const $crate::rseq::hot::at::GENERAL,
            RSEQ_CS = const $crate::rseq::hot::at::RSEQ_CS,
            CPU_ID = const $crate::rseq::hot::at::CPU_ID,
        )
    };
}

/// The same by concurrency id, which this processor has no sections for: it leaves all to `$slow`.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc_by_id {
    ($slow:path) => {
        core::arch::naked_asm!(".cfi_startproc", "b {slow}", ".cfi_endproc", slow = sym $slow)
    };
}

/// The body of a naked function `(address)` that jumps to `$slow`, a function of the same signature, where it cannot
/// serve.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_free {
    ($slow:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "adrp x9, {hot}",
            "add x9, x9, :lo12:{hot}",              // x9 = &hot
            "lsr x10, x0, #{shift}",                // x10 = granule of the address
            "ldp x11, x12, [x9, #{FIRST}]",         // x11 = hot.first; x12 = hot.granules
            "sub x11, x10, x11",                    // x11 = x10 - x11
            "cmp x11, x12",                         // if (x11 >= x12)
            "b.hs 6f",                              //     miss
            "tst x0, #15",                          // if (address & 15)
            "b.ne 6f",                              //     miss
            "ldr x11, [x9, #{CLASSES}]",            // x11 = hot.classes
            "ldrb w10, [x11, x10]",                 // x10 = x11[x10]: the class, times CLASS_STEP
            "ldp x12, x13, [x9, #{OFFSET}]",        // x12 = hot.offset; x13 = hot.table
            $crate::__rseq_begin!("x12", "x14"),    // x12 = number of the CPU
            "ldr x12, [x13, x12, lsl #3]",          // x12 = x13[x12]: the area
            "add x13, x12, x10, lsl #3",            // x13 = &area.slot
            "add x14, x13, #{END}",
            "ldar x14, [x14]",                      // x14 = x13.end, acquire
            "ldr x15, [x13]",                       // x15 = x13.cursor
            "cmp x15, x14",                         // if (x15 >= x14)
            "b.hs 6f",                              //     miss
            "str x0, [x12, x15]",                   // *(area + x15) = address
            "add x15, x15, #8",                     // x15 += 8
            "str x15, [x13]",                       // x13.cursor = x15: commit
            $crate::__rseq_end!("ret", "b {slow}"),
            ".p2align 6",
            ".cfi_endproc",
            shift = const $crate::rseq::entry::SHIFT,
            hot = sym $crate::rseq::hot::HOT,
            slow = sym $slow,
            END = const $crate::rseq::END,
            OFFSET = const $crate::rseq::hot::at::OFFSET,
            FIRST = const $crate::rseq::hot::at::FIRST,
            CLASSES = const $crate::rseq::hot::at::CLASSES,
            RSEQ_CS = const $crate::rseq::hot::at::RSEQ_CS,
            CPU_ID = const $crate::rseq::hot::at::CPU_ID,
        )
    };
}

/// The same by concurrency id, which this processor has no sections for: it leaves all to `$slow`.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_free_by_id {
    ($slow:path) => {
        core::arch::naked_asm!(".cfi_startproc", "b {slow}", ".cfi_endproc", slow = sym $slow)
    };
}

/// The same while a profile counts: here the ordinary function does that.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc_counted {
    ($slow:path) => {
        core::arch::naked_asm!(".cfi_startproc", "b {slow}", ".cfi_endproc", slow = sym $slow)
    };
}
