//! arm64. x9 and x16 are registers that a call may change: what is loaded there lasts to the next jump.

use core::arch::asm;

/// The body of a function that takes size and alignment, and calls `$get` with them until it returns memory, or the
/// new-handler gives up. Both are kept in x19 and x20.
macro_rules! throwing_body {
    ($get:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "stp x29, x30, [sp, #-32]!",
            ".cfi_def_cfa_offset 32",
            ".cfi_offset x29, -32",
            ".cfi_offset x30, -24",
            "stp x19, x20, [sp, #16]",
            ".cfi_offset x19, -16",
            ".cfi_offset x20, -8",
            "mov x29, sp",
            "mov x19, x0",
            "mov x20, x1",
            "2:",
            "mov x0, x19",
            "mov x1, x20",
            "bl {get}",
            "cbnz x0, 4f",
            "bl {handler}",
            "cbz x0, 3f",
            "blr x0",
            "b 2b",
            "3:",
            "bl {thrower}",
            "blr x0",
            "udf #0",
            "4:",
            "ldp x19, x20, [sp, #16]",
            ".cfi_restore x19",
            ".cfi_restore x20",
            "ldp x29, x30, [sp], #32",
            ".cfi_restore x29",
            ".cfi_restore x30",
            ".cfi_def_cfa_offset 0",
            "ret",
            ".cfi_endproc",
            get = sym $get,
            handler = sym handler,
            thrower = sym thrower,
        )
    };
}

/// A jump to the basic form, by the global offset table.
macro_rules! jump_body {
    ($basic:literal) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            concat!("adrp x16, :got:", $basic),
            concat!("ldr x16, [x16, :got_lo12:", $basic, "]"),
            "br x16",
            ".cfi_endproc"
        )
    };
}

/// The alignment of a sized form is its third argument, and that of the basic form its second.
macro_rules! align_is_second {
    () => {
        "mov x1, x2"
    };
}

/// The same jump, after a look at the arguments where memory is checked.
macro_rules! looking_body {
    ($basic:literal, $check:path, $($first:expr)?) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "adrp x16, {on}",
            "ldr w16, [x16, :lo12:{on}]",
            "cbnz w16, 3f",
            "2:",
            $($first,)?
            concat!("adrp x16, :got:", $basic),
            concat!("ldr x16, [x16, :got_lo12:", $basic, "]"),
            "br x16",
            "3:",
            "stp x29, x30, [sp, #-48]!",
            ".cfi_def_cfa_offset 48",
            ".cfi_offset x29, -48",
            ".cfi_offset x30, -40",
            "mov x29, sp",
            "stp x0, x1, [sp, #16]",
            "str x2, [sp, #32]",
            "bl {check}",
            "ldp x0, x1, [sp, #16]",
            "ldr x2, [sp, #32]",
            "ldp x29, x30, [sp], #48",
            ".cfi_restore x29",
            ".cfi_restore x30",
            ".cfi_def_cfa_offset 0",
            "b 2b",
            ".cfi_endproc",
            on = sym checks::ON,
            check = sym $check,
        )
    };
}

/// The same jump; where memory is checked, a call, and what it returns goes to `array`.
macro_rules! announced_body {
    ($basic:literal) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "adrp x16, {on}",
            "ldr w16, [x16, :lo12:{on}]",
            "cbnz w16, 3f",
            concat!("adrp x16, :got:", $basic),
            concat!("ldr x16, [x16, :got_lo12:", $basic, "]"),
            "br x16",
            "3:",
            "stp x29, x30, [sp, #-16]!",
            ".cfi_def_cfa_offset 16",
            ".cfi_offset x29, -16",
            ".cfi_offset x30, -8",
            "mov x29, sp",
            concat!("adrp x16, :got:", $basic),
            concat!("ldr x16, [x16, :got_lo12:", $basic, "]"),
            "blr x16",
            "ldp x29, x30, [sp], #16",
            ".cfi_restore x29",
            ".cfi_restore x30",
            ".cfi_def_cfa_offset 0",
            "b {array}",
            ".cfi_endproc",
            on = sym checks::ON,
            array = sym array,
        )
    };
}

/// Where the frame of `nothrow` goes on with an exception in x0.
pub(super) fn landing_pad() -> usize {
    let address;
    // SAFETY: computes an address.
    unsafe {
        asm!(
            "adrp {0}, kmem_cxx_landing_pad",
            "add {0}, {0}, :lo12:kmem_cxx_landing_pad",
            out(reg) address,
            options(nomem, nostack, preserves_flags),
        )
    };
    address
}

/// The form is in x9.
macro_rules! nothrow_body {
    () => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            ".cfi_personality 0x1b, {personality}",
            "stp x29, x30, [sp, #-16]!",
            ".cfi_def_cfa_offset 16",
            ".cfi_offset x29, -16",
            ".cfi_offset x30, -8",
            "mov x29, sp",
            "blr x9",
            "2:",
            "ldp x29, x30, [sp], #16",
            ".cfi_remember_state",
            ".cfi_restore x29",
            ".cfi_restore x30",
            ".cfi_def_cfa_offset 0",
            "ret",
            ".cfi_restore_state",
            ".globl kmem_cxx_landing_pad",
            ".hidden kmem_cxx_landing_pad",
            "kmem_cxx_landing_pad:",
            "bl {forget}",
            "mov x0, #0",
            "b 2b",
            ".cfi_endproc",
            personality = sym personality,
            forget = sym forget_exception,
        )
    };
}

/// Hands the basic form to `nothrow`.
macro_rules! catching_body {
    ($basic:literal) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            concat!("adrp x9, :got:", $basic),
            concat!("ldr x9, [x9, :got_lo12:", $basic, "]"),
            "b {nothrow}",
            ".cfi_endproc",
            nothrow = sym nothrow,
        )
    };
}

pub(super) use {align_is_second, announced_body, catching_body, jump_body, looking_body, nothrow_body, throwing_body};
