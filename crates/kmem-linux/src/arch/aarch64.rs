//! arm64.
//!
//! Thread-local storage lies above the thread pointer here, after two words of libc's; glibc's own block, with its rseq
//! area in it, lies below.

use core::arch::{asm, naked_asm};

pub(crate) use super::generic as nr;
use super::{Beginning, THREAD_FLAGS};
use crate::process::thread::MAPPING;

/// Bytes of the smallest page, and of the largest.
pub(crate) const PAGES: (usize, usize) = (4096, 65536);
pub(crate) const O_DIRECTORY: usize = 0o4_0000;
/// The word before each abort handler, which the kernel compares. The encoding of an instruction that traps, shared
/// with glibc.
pub(crate) const RSEQ_SIGNATURE: usize = 0xd428_bc00;
/// Bytes above the thread pointer: static thread-local storage, of which a thread of ours uses our block.
pub(crate) const ABOVE: usize = 8 << 10;

/// Makes a system call.
///
/// # Safety
/// The call does nothing to memory that the caller has no right to.
#[inline]
pub(crate) unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel changes x0 only; the rest is the caller's promise.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a as isize => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    answer
}

/// The thread pointer.
#[inline]
pub(crate) fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, pure, nomem)) };
    pointer
}

/// The distance of a symbol from the thread pointer, which the linker or the dynamic linker writes.
macro_rules! own_offset {
    ($($symbol:tt)*) => {{
        let offset: usize;
        // SAFETY: loads a constant of the program.
        unsafe {
            core::arch::asm!(
                concat!("adrp {0}, :gottprel:", $($symbol)*),
                concat!("ldr {0}, [{0}, :gottprel_lo12:", $($symbol)*, "]"),
                out(reg) offset,
                options(nostack, preserves_flags, readonly),
            );
        }
        offset
    }};
}
pub(crate) use own_offset;

/// An instruction that traps.
#[doc(hidden)]
#[macro_export]
macro_rules! __trap {
    () => {
        "udf #0"
    };
}

/// The address of a symbol, or null where no library has it.
#[doc(hidden)]
#[macro_export]
macro_rules! __weak_address {
    ($symbol:literal) => {{
        let address: *const ();
        // SAFETY: loads a word of the global offset table, which holds an address or null.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("adrp {0}, :got:", $symbol),
                concat!("ldr {0}, [{0}, :got_lo12:", $symbol, "]"),
                out(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
        address
    }};
}

/// Nothing: the ABI asks for no word of a thread's block, and the guard of the stack is one of the process.
///
/// # Safety
/// None needed; the same on every processor.
pub(crate) unsafe fn lay_out(_pointer: usize) {}

/// Makes a thread, which begins in [`begin`]; whether it was made.
///
/// # Safety
/// The memory is a new thread's alone, and laid out.
#[inline(never)]
pub(crate) unsafe fn spawn(thread: &Beginning<'_>) -> bool {
    let answer: isize;
    // SAFETY: the new thread has a stack of its own and never comes back here; for this one it is a system call.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "b {begin}",
            "2:",
            begin = sym begin,
            in("x8") nr::CLONE,
            inlateout("x0") THREAD_FLAGS as isize => answer,
            in("x1") thread.stack,
            in("x2") thread.alive.as_ptr(),
            in("x3") thread.pointer,
            in("x4") thread.alive.as_ptr(),
            in("x20") thread.base,
            in("x21") thread.len,
            in("x22") thread.run,
            options(nostack),
        );
    }
    answer > 0
}

/// The first and the last instructions of the thread: runs `x22`, ends its mapping, of which it uses nothing from there
/// on, and itself.
#[unsafe(naked)]
unsafe extern "C" fn begin() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "mov x29, #0",                          // no frame before this one
        "blr x22",                              // run()
        "adrp x9, {mapping}",                   // MAPPING[0] = 0
        "add x9, x9, :lo12:{mapping}",
        "str xzr, [x9]",
        "mov x8, #{MUNMAP}",                    // munmap(base, len): the stack is gone
        "mov x0, x20",
        "mov x1, x21",
        "svc #0",
        "mov x8, #{EXIT}",                      // exit(0): the kernel clears ALIVE
        "mov x0, #0",
        "svc #0",
        "udf #0",                               // not reached
        ".cfi_endproc",
        mapping = sym MAPPING,
        MUNMAP = const nr::MUNMAP,
        EXIT = const nr::EXIT,
    )
}

/// The frame pointer, where a frame begins with that of its caller and the address to return to, and the stack pointer.
#[inline(always)]
pub(crate) fn frame_and_stack() -> (usize, usize) {
    let (frame, stack): (usize, usize);
    // SAFETY: reads two registers.
    unsafe { asm!("mov {}, x29", "mov {}, sp", out(reg) frame, out(reg) stack, options(nomem, nostack)) };
    (frame, stack)
}

/// Registers by their DWARF numbers, for unwinding.
pub(crate) mod dwarf {
    use core::arch::asm;

    /// Registers with a number below this are followed.
    pub(crate) const COUNT: usize = 32;
    /// The stack pointer's.
    pub(crate) const SP: usize = 31;
    /// The frame pointer's.
    pub(crate) const FP: usize = 29;
    /// The number under which a frame's return address is found.
    pub(crate) const RETURN: usize = 30;
    /// What a callee must leave as it was, besides the stack pointer.
    pub(crate) const KEPT: [usize; 11] = [19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29];

    /// Stores those, as they are in the function that this is in line in; as the return address, where that is.
    #[inline(always)]
    pub(crate) fn store(registers: &mut [usize; COUNT]) {
        // SAFETY: stores into the array, and uses one more register.
        unsafe {
            asm!(
                "stp x19, x20, [{to}, #19*8]",
                "stp x21, x22, [{to}, #21*8]",
                "stp x23, x24, [{to}, #23*8]",
                "stp x25, x26, [{to}, #25*8]",
                "stp x27, x28, [{to}, #27*8]",
                "adr {t}, .",
                "stp x29, {t}, [{to}, #29*8]",
                "mov {t}, sp",
                "str {t}, [{to}, #31*8]",
                to = in(reg) registers.as_mut_ptr(),
                t = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// What stands before the name of a register in the note of a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __probe_register {
    () => {
        ""
    };
}
