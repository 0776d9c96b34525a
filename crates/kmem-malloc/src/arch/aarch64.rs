//! arm64.

/// A jump to a symbol.
macro_rules! jump {
    ($to:expr) => {
        concat!("b ", $to)
    };
}

/// The body of `vfork`, which the kernel has as a kind of clone here: CLONE_VM, CLONE_VFORK, SIGCHLD. The return
/// address is in a register by itself, and each of the two returns by it.
macro_rules! vfork_body {
    ($lend:path, $in_parent:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "stp x29, x30, [sp, #-16]!",
            ".cfi_def_cfa_offset 16",
            ".cfi_offset x29, -16",
            ".cfi_offset x30, -8",
            "bl {lend}",                // x0 = lend()
            "ldp x29, x30, [sp], #16",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore x29",
            ".cfi_restore x30",
            "mov x9, x0",               // x9 = what was lent
            "mov x0, #{FLAGS}",
            "mov x1, #0",               // the same stack
            "mov x2, #0",
            "mov x3, #0",
            "mov x4, #0",
            "mov x8, #{SYS_CLONE}",
            "svc #0",                   // x0 = clone(FLAGS, 0, 0, 0, 0)
            "cbz x0, 2f",               // if (x0 == 0) goto 2: this is the child
            "mov x1, x0",               // x1 = the answer
            "mov x0, x9",               // x0 = what was lent
            "b {in_parent}",            // return in_parent(x0, x1)
            "2:",
            "ret",                      // return 0
            ".cfi_endproc",
            lend = sym $lend,
            in_parent = sym $in_parent,
            FLAGS = const 0x4111,
            SYS_CLONE = const 220,
        )
    };
}

/// The body of `dlopen`.
macro_rules! dlopen_body {
    ($next:path, $kept:path, $find:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "adrp x16, {next}",
            "add x16, x16, :lo12:{next}",
            "ldar x16, [x16]",          // x16 = NEXT, acquire: KEPT was stored before it
            "cbz x16, 3f",              // if (x16 == 0) goto 3
            "2:",
            "adrp x17, {kept}",
            "add x17, x17, :lo12:{kept}",
            "ldr w17, [x17]",
            "and w1, w1, w17",          // flags &= KEPT
            "br x16",                   // return x16(file, flags)
            "3:",
            "stp x29, x30, [sp, #-32]!",
            ".cfi_def_cfa_offset 32",
            ".cfi_offset x29, -32",
            ".cfi_offset x30, -24",
            "stp x0, x1, [sp, #16]",    // keep file and flags
            "bl {find}",                // x0 = find()
            "mov x16, x0",
            "ldp x0, x1, [sp, #16]",    // file and flags, as they were
            "ldp x29, x30, [sp], #32",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore x29",
            ".cfi_restore x30",
            "cbnz x16, 2b",             // if (x16 != 0) goto 2
            "mov x0, #0",
            "ret",                      // return NULL
            ".cfi_endproc",
            next = sym $next,
            kept = sym $kept,
            find = sym $find,
        )
    };
}

pub(crate) use {dlopen_body, jump, vfork_body};
