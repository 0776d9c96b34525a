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
