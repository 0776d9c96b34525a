//! RISC-V, 64 bits: what a processor needs at the least. Sections are those of the fallback, and there is no thread of
//! upkeep: slow paths take the turns.

use core::arch::asm;

use super::Beginning;
pub(crate) use super::generic as nr;

/// Bytes of the smallest page, and of the largest.
pub(crate) const PAGES: (usize, usize) = (4096, 4096);
pub(crate) const O_DIRECTORY: usize = 0o20_0000;
/// Of an area that is never registered.
pub(crate) const RSEQ_SIGNATURE: usize = 0xf140_1073;
/// Bytes above the thread pointer.
pub(crate) const ABOVE: usize = 8 << 10;

/// Makes a system call.
///
/// # Safety
/// The call does nothing to memory that the caller has no right to.
#[inline]
pub(crate) unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel changes a0 only; the rest is the caller's promise.
    unsafe {
        asm!(
            "ecall",
            in("a7") number,
            inlateout("a0") a as isize => answer,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f,
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
    unsafe { asm!("mv {}, tp", out(reg) pointer, options(nostack, preserves_flags, pure, nomem)) };
    pointer
}

/// The distance of a symbol from the thread pointer, which the linker or the dynamic linker writes.
macro_rules! own_offset {
    ($($symbol:tt)*) => {{
        let offset: usize;
        // SAFETY: loads a constant of the program.
        unsafe {
            core::arch::asm!(
                concat!("la.tls.ie {0}, ", $($symbol)*),
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
        "unimp"
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
                concat!("lga {0}, ", $symbol),
                out(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
        address
    }};
}

/// Nothing: no thread is made.
///
/// # Safety
/// None needed; the same on every processor.
pub(crate) unsafe fn lay_out(_pointer: usize) {}

/// Nobody wrote the first and the last instructions of a thread for this processor.
///
/// # Safety
/// None needed; the same on every processor.
pub(crate) unsafe fn spawn(_thread: &Beginning<'_>) -> bool {
    false
}

/// No frame pointer: a frame here does not begin with that of its caller.
pub(crate) fn frame_and_stack() -> (usize, usize) {
    (0, 0)
}

/// Registers by their DWARF numbers, for unwinding.
pub(crate) mod dwarf {
    use core::arch::asm;

    /// Registers with a number below this are followed.
    pub(crate) const COUNT: usize = 32;
    /// The stack pointer's.
    pub(crate) const SP: usize = 2;
    /// The frame pointer's.
    pub(crate) const FP: usize = 8;
    /// The number under which a frame's return address is found.
    pub(crate) const RETURN: usize = 1;
    /// What a callee must leave as it was, besides the stack pointer.
    pub(crate) const KEPT: [usize; 12] = [8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27];

    /// Stores those, as they are in the function that this is in line in; as the return address, where that is.
    #[inline(always)]
    pub(crate) fn store(registers: &mut [usize; COUNT]) {
        // SAFETY: stores into the array, and uses one more register.
        unsafe {
            asm!(
                "sd s0, 8*8({to})",
                "sd s1, 9*8({to})",
                "sd s2, 18*8({to})",
                "sd s3, 19*8({to})",
                "sd s4, 20*8({to})",
                "sd s5, 21*8({to})",
                "sd s6, 22*8({to})",
                "sd s7, 23*8({to})",
                "sd s8, 24*8({to})",
                "sd s9, 25*8({to})",
                "sd s10, 26*8({to})",
                "sd s11, 27*8({to})",
                "auipc {t}, 0",
                "sd {t}, 1*8({to})",
                "sd sp, 2*8({to})",
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
