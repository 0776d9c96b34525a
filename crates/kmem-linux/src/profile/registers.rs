//! The registers that unwinding follows, by their DWARF numbers, on x86-64.

use core::arch::asm;

/// Registers with a number below this are followed.
pub(super) const COUNT: usize = 17;
/// The stack pointer's.
pub(super) const SP: usize = 7;
/// The frame pointer's.
pub(super) const FP: usize = 6;
/// The number under which a frame's return address is found.
pub(super) const RETURN: usize = 16;
/// What a callee must leave as it was, besides the stack pointer.
pub(super) const KEPT: [usize; 6] = [3, 6, 12, 13, 14, 15];

/// The registers of a thread, at some point of its stack.
#[derive(Clone, Copy)]
pub(super) struct Registers(pub(super) [usize; COUNT]);

impl Registers {
    /// Those of here: of the function that this is in line in.
    #[inline(always)]
    pub(super) fn here() -> Self {
        let mut registers = [0; COUNT];
        // SAFETY: stores into the array, and uses one more register.
        unsafe {
            asm!(
                "mov [{to} + 3*8], rbx",
                "mov [{to} + 6*8], rbp",
                "mov [{to} + 7*8], rsp",
                "mov [{to} + 12*8], r12",
                "mov [{to} + 13*8], r13",
                "mov [{to} + 14*8], r14",
                "mov [{to} + 15*8], r15",
                "lea {t}, [rip]",
                "mov [{to} + 16*8], {t}",
                to = in(reg) registers.as_mut_ptr(),
                t = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
        Self(registers)
    }
}
