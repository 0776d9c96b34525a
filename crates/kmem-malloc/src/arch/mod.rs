//! What this library says in the instructions of its processor, beside malloc and free themselves
//! ([`kmem_linux::rseq::entry`]): one file each.
//!
//! | macro | what it makes |
//! |---|---|
//! | `jump!` | one instruction, for templates |
//! | `vfork_body!`, `dlopen_body!` | naked functions: see [`vfork`](crate::vfork) and [`plugin`](crate::plugin) |

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod processor;

pub(crate) use processor::*;
