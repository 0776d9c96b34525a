//! x86-64.

/// A jump to a symbol.
macro_rules! jump {
    ($to:expr) => {
        concat!("jmp ", $to)
    };
}

/// The body of `vfork`. Where the processor keeps a second stack of return addresses child and parent share that one
/// too. The parent leaves by `ret`, which finds there what its own call left. So the child must not pop it: it leaves
/// by a jump.
macro_rules! vfork_body {
    ($lend:path, $in_parent:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "call {lend}",              // rax = lend()
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "pop rdi",                  // rdi = the return address
            ".cfi_adjust_cfa_offset -8",
            ".cfi_register rip, rdi",
            "mov rsi, rax",             // rsi = what was lent
            "mov eax, {SYS_VFORK}",
            "syscall",                  // rax = vfork()
            "push rdi",
            ".cfi_adjust_cfa_offset 8",
            ".cfi_offset rip, -8",
            "test rax, rax",            // if (rax == 0)
            "jz 2f",                    //     goto 2: this is the child
            "mov rdi, rsi",             // rdi = what was lent
            "mov rsi, rax",             // rsi = the answer
            "jmp {in_parent}",          // return in_parent(rdi, rsi)
            "2:",
            "pop rdx",                  // return 0, not by ret
            ".cfi_adjust_cfa_offset -8",
            ".cfi_register rip, rdx",
            "jmp rdx",
            ".cfi_endproc",
            lend = sym $lend,
            in_parent = sym $in_parent,
            SYS_VFORK = const 58,
        )
    };
}

/// The body of `dlopen`.
macro_rules! dlopen_body {
    ($next:path, $kept:path, $find:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "mov rax, qword ptr [rip + {next}]",    // rax = NEXT
            "test rax, rax",                        // if (rax == 0)
            "jz 3f",                                //     goto 3
            "2:",
            "and esi, dword ptr [rip + {kept}]",    // flags &= KEPT
            "jmp rax",                              // return rax(file, flags)
            "3:",
            "push rdi",                             // keep file
            ".cfi_adjust_cfa_offset 8",
            "push rsi",                             // keep flags
            ".cfi_adjust_cfa_offset 8",
            "sub rsp, 8",                           // align the stack
            ".cfi_adjust_cfa_offset 8",
            "call {find}",                          // rax = find()
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "pop rsi",                              // flags, as they were
            ".cfi_adjust_cfa_offset -8",
            "pop rdi",                              // file, as it was
            ".cfi_adjust_cfa_offset -8",
            "test rax, rax",                        // if (rax != 0)
            "jnz 2b",                               //     goto 2
            "ret",                                  // return NULL
            ".cfi_endproc",
            next = sym $next,
            kept = sym $kept,
            find = sym $find,
        )
    };
}

pub(crate) use {dlopen_body, jump, vfork_body};
