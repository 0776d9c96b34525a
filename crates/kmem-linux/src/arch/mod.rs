//! What differs from processor to processor: one file each, with the same names in it.
//!
//! | file | processor | sections |
//! |---|---|---|
//! | `x86_64` | x86-64 | yes |
//! | `aarch64` | arm64 | yes |
//! | `riscv64` | RISC-V, 64 bits | none: the fallback |
//!
//! | name | what it is |
//! |---|---|
//! | `call` | a system call: the kernel's answer, an error below zero |
//! | `nr` | the numbers of the calls; `generic` has those that all processors but x86-64 share |
//! | `PAGES` | the smallest and the largest page |
//! | `O_DIRECTORY`, `RSEQ_SIGNATURE` | constants of the kernel's that are not the same everywhere |
//! | `thread_pointer` | a number of the calling thread, by which its static thread-local storage is found |
//! | `own_offset!` | how far from the thread pointer a thread-local symbol lies |
//! | `__weak_address!` | the address of a symbol that no library may have |
//! | `__trap!` | an instruction that traps |
//! | `spawn`, `lay_out`, `ABOVE` | a thread that libc does not know: see [`process::thread`](crate::process::thread) |
//!
//! What sections are made of is in [`rseq`](crate::rseq), in files of the same names. A processor that is not here
//! needs a file of about a hundred lines (the shortest is `riscv64`), and runs in the fallback then.

#[cfg(not(target_arch = "x86_64"))]
pub(crate) mod generic;

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod processor;

pub(crate) use processor::*;

/// What a thread that libc does not know begins with.
pub(crate) struct Beginning<'a> {
    /// Where its mapping begins, and how long it is: it ends it itself.
    pub(crate) base: usize,
    pub(crate) len: usize,
    /// The top of its stack.
    pub(crate) stack: usize,
    /// Its thread pointer.
    pub(crate) pointer: usize,
    /// Where the kernel writes its number, and clears it when it no longer exists.
    pub(crate) alive: &'a kmem_core::sync::AtomicU32,
    /// What it runs.
    pub(crate) run: extern "C" fn(),
}

/// CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID.
const THREAD_FLAGS: usize = 0x3d_0f00;
