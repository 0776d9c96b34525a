//! libkmem_malloc.so: malloc(3) and the C++ operators on kmem, for programs that know nothing of it.
//!
//! | file | what it exports |
//! |---|---|
//! | [`c`] | malloc, free, calloc, realloc and their kin |
//! | `cxx` | operator new and delete, plain, array, sized, aligned, nothrow: on x86-64 and arm64 |
//! | [`glibc`] | mallinfo, mallopt and what else glibc adds |
//! | [`vfork`] | vfork and clone, for children that run on a thread of their parent's |
//! | [`fork`] | fork, one thread at a time under musl: from the shared library only |
//! | [`plugin`] | dlopen, without RTLD_DEEPBIND |
//! | [`api`] | what C programs call beside malloc: caches, figures, CPUs |
//! | `arch` | nothing: what differs from processor to processor |
//! | `start` | nothing: what happens when the library is loaded and when the program ends |
//! | `table` | nothing: the slab table of `KMEM_STATS=1` |
//! | `storm` | nothing: the hotplug storm of `KMEM_STORM=N` |
//!
//! The library is loaded before libc is ready and lives inside strangers: it has no std, formats nothing, looks nothing
//! up by name, and keeps no thread-local data but the engine's 64 bytes. Where it is built with unwinding panics (for
//! tests) std is linked, and not used.
//!
//! As an rlib it does the same for the C parts of a Rust program: `use kmem_malloc as _;`. With `panic = "abort"`
//! switch its default feature off, for std brings the panic handler then.
#![cfg_attr(all(panic = "abort", feature = "preload"), no_std)]

/// Exports a function of its module under other names too. Each is a jump by a hidden name of the function, so it is
/// this library's own also where a program brings one of the first name, as shims do that call these.
macro_rules! also {
    ($($function:ident: $($name:ident)*;)*) => {
        core::arch::global_asm!($(
            concat!(".globl kmem_", stringify!($function)),
            concat!(".hidden kmem_", stringify!($function)),
            concat!(".set kmem_", stringify!($function), ", ", stringify!($function)),
        )*);
        $($(
            #[doc = concat!("Another name of [`", stringify!($function), "`], whose arguments it has.")]
            ///
            /// # Safety
            /// As in C.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name() {
                core::arch::naked_asm!(
                    ".cfi_startproc",
                    crate::arch::jump!(concat!("kmem_", stringify!($function))),
                    ".cfi_endproc"
                )
            }
        )*)*
    };
}

pub mod api;
mod arch;
pub mod c;
#[cfg(not(target_arch = "riscv64"))]
pub mod cxx;
pub mod fork;
pub mod glibc;
pub mod plugin;
mod start;
mod storm;
mod table;
pub mod vfork;

#[cfg(all(panic = "abort", feature = "preload"))]
mod panic;
