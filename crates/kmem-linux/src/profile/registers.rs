//! The registers that unwinding follows, by their DWARF numbers, which the room of the processor has.

pub(super) use crate::arch::dwarf::{COUNT, FP, KEPT, RETURN, SP};

use crate::arch::dwarf;

/// The registers of a thread, at some point of its stack.
#[derive(Clone, Copy)]
pub(super) struct Registers(pub(super) [usize; COUNT]);

impl Registers {
    /// Those of here: of the function that this is in line in.
    #[inline(always)]
    pub(super) fn here() -> Self {
        let mut registers = [0; COUNT];
        dwarf::store(&mut registers);
        Self(registers)
    }
}
