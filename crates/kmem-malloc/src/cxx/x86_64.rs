//! x86-64.

use core::arch::asm;

/// The body of a function that takes size and alignment, and calls `$get` with them until it returns memory, or the
/// new-handler gives up. Both are kept in rbx and r14.
macro_rules! throwing_body {
    ($get:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "push rbx",
            ".cfi_adjust_cfa_offset 8",
            ".cfi_rel_offset rbx, 0",
            "push r14",
            ".cfi_adjust_cfa_offset 8",
            ".cfi_rel_offset r14, 0",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "mov rbx, rdi",
            "mov r14, rsi",
            "2:",
            "mov rdi, rbx",
            "mov rsi, r14",
            "call {get}",
            "test rax, rax",
            "jnz 4f",
            "call {handler}",
            "test rax, rax",
            "jz 3f",
            "call rax",
            "jmp 2b",
            "3:",
            "call {thrower}",
            "call rax",
            "ud2",
            "4:",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "pop r14",
            ".cfi_adjust_cfa_offset -8",
            ".cfi_restore r14",
            "pop rbx",
            ".cfi_adjust_cfa_offset -8",
            ".cfi_restore rbx",
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
        core::arch::naked_asm!(".cfi_startproc", concat!("jmp qword ptr [rip + ", $basic, "@GOTPCREL]"), ".cfi_endproc")
    };
}

/// The alignment of a sized form is its third argument, and that of the basic form its second.
macro_rules! align_is_second {
    () => {
        "mov rsi, rdx"
    };
}

/// The same jump, after a look at the arguments where memory is checked.
macro_rules! looking_body {
    ($basic:literal, $check:path, $($first:expr)?) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "cmp dword ptr [rip + {on}], 0",
            "jne 3f",
            "2:",
            $($first,)?
            concat!("jmp qword ptr [rip + ", $basic, "@GOTPCREL]"),
            "3:",
            "push rdi",
            ".cfi_adjust_cfa_offset 8",
            "push rsi",
            ".cfi_adjust_cfa_offset 8",
            "push rdx",
            ".cfi_adjust_cfa_offset 8",
            "call {check}",
            "pop rdx",
            ".cfi_adjust_cfa_offset -8",
            "pop rsi",
            ".cfi_adjust_cfa_offset -8",
            "pop rdi",
            ".cfi_adjust_cfa_offset -8",
            "jmp 2b",
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
            "cmp dword ptr [rip + {on}], 0",
            "jne 3f",
            concat!("jmp qword ptr [rip + ", $basic, "@GOTPCREL]"),
            "3:",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            concat!("call qword ptr [rip + ", $basic, "@GOTPCREL]"),
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "mov rdi, rax",
            "jmp {array}",
            ".cfi_endproc",
            on = sym checks::ON,
            array = sym array,
        )
    };
}

/// Where the frame of `nothrow` goes on with an exception in rax.
pub(super) fn landing_pad() -> usize {
    let address;
    // SAFETY: computes an address.
    unsafe { asm!("lea {}, [rip + kmem_cxx_landing_pad]", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

/// The form is in rax.
macro_rules! nothrow_body {
    () => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            ".cfi_personality 0x1b, {personality}",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "call rax",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "ret",
            ".cfi_adjust_cfa_offset 8",
            ".globl kmem_cxx_landing_pad",
            ".hidden kmem_cxx_landing_pad",
            "kmem_cxx_landing_pad:",
            "mov rdi, rax",
            "call {forget}",
            "xor eax, eax",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "ret",
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
            concat!("mov rax, qword ptr [rip + ", $basic, "@GOTPCREL]"),
            "jmp {nothrow}",
            ".cfi_endproc",
            nothrow = sym nothrow,
        )
    };
}

pub(super) use {align_is_second, announced_body, catching_body, jump_body, looking_body, nothrow_body, throwing_body};
