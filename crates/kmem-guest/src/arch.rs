//! The machines that a guest can be: the emulator, what it emulates, and what its kernel needs to be told.

use clap::ValueEnum;

/// A processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// arm64.
    Arm64,
}

/// How a processor is emulated.
pub struct Machine {
    pub emulator: &'static str,
    /// The machine and its processor.
    pub kind: &'static [&'static str],
    /// For the kernel: the serial line; no delays for absent hardware; a panic ends the emulator.
    pub kernel_arguments: &'static str,
}

impl Arch {
    pub fn machine(self) -> Machine {
        match self {
            Self::Amd64 => Machine {
                emulator: "qemu-system-x86_64",
                kind: &["-M", "pc", "-cpu", "max"],
                kernel_arguments: "console=ttyS0 panic=-1 quiet rcupdate.rcu_expedited=1 cpu_init_udelay=0 mce=off",
            },
            // Time follows the instructions: there is no other hint to a kernel without PAUSE that its CPU waited.
            Self::Arm64 => Machine {
                emulator: "qemu-system-aarch64",
                kind: &["-M", "virt", "-cpu", "max,pauth-impdef=on", "-icount", "shift=3,sleep=off"],
                kernel_arguments: "console=ttyAMA0 panic=-1 quiet rcupdate.rcu_expedited=1",
            },
        }
    }
}
