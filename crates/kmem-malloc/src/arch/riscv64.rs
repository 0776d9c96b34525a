//! RISC-V, 64 bits.

/// A jump to a symbol.
macro_rules! jump {
    ($to:expr) => {
        concat!("tail ", $to)
    };
}

/// The body of `vfork`, as a kind of clone: CLONE_VM, CLONE_VFORK, SIGCHLD. The return address is in a register by
/// itself, and each of the two returns by it.
macro_rules! vfork_body {
    ($lend:path, $in_parent:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "addi sp, sp, -16",
            ".cfi_def_cfa_offset 16",
            "sd ra, 8(sp)",
            ".cfi_offset ra, -8",
            "call {lend}",              // a0 = lend()
            "ld ra, 8(sp)",
            ".cfi_restore ra",
            "addi sp, sp, 16",
            ".cfi_def_cfa_offset 0",
            "mv t0, a0",                // t0 = what was lent
            "li a0, {FLAGS}",
            "li a1, 0",                 // the same stack
            "li a2, 0",
            "li a3, 0",
            "li a4, 0",
            "li a7, {SYS_CLONE}",
            "ecall",                    // a0 = clone(FLAGS, 0, 0, 0, 0)
            "beqz a0, 2f",              // if (a0 == 0) goto 2: this is the child
            "mv a1, a0",                // a1 = the answer
            "mv a0, t0",                // a0 = what was lent
            "tail {in_parent}",         // return in_parent(a0, a1)
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
            "addi sp, sp, -32",
            ".cfi_def_cfa_offset 32",
            "sd ra, 24(sp)",
            ".cfi_offset ra, -8",
            "sd a0, 8(sp)",             // keep file and flags
            "sd a1, 16(sp)",
            "call {find}",              // a0 = find()
            "mv t1, a0",
            "ld a0, 8(sp)",             // file and flags, as they were
            "ld a1, 16(sp)",
            "ld ra, 24(sp)",
            ".cfi_restore ra",
            "addi sp, sp, 32",
            ".cfi_def_cfa_offset 0",
            "beqz t1, 3f",              // if (t1 == 0) goto 3
            "lla t2, {kept}",
            "lw t2, 0(t2)",
            "and a1, a1, t2",           // flags &= KEPT
            "jr t1",                    // return t1(file, flags)
            "3:",
            "li a0, 0",
            "ret",                      // return NULL
            ".cfi_endproc",
            kept = sym $kept,
            find = sym $find,
        )
    };
}

pub(crate) use {dlopen_body, jump, vfork_body};
