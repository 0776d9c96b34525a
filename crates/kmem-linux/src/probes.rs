//! Probes: places on slow paths that tracers can hook into (USDT: bpftrace, SystemTap, perf).
//!
//! A probe is an instruction that does nothing, and a note in the file that says where it is, and in which registers
//! its arguments are. A tracer puts a breakpoint there. Without one it costs what brings the arguments into registers.
//!
//! | probe | arguments |
//! |---|---|
//! | `refill` | name of the cache, objects taken from slabs |
//! | `flush` | name of the cache, objects returned to depot and slabs |
//! | `slab_made` | name of the cache, bytes |
//! | `slabs_freed` | bytes |
//! | `cpus_stopped` | the first CPU, how many |
//! | `large_alloc` | address, bytes |
//! | `large_free` | address, bytes |
//!
//! ```text
//! bpftrace -e 'usdt:/path/libkmem_malloc.so:kmem:slab_made { @[str(arg0)] = sum(arg1); }' -p PID
//! ```
//! The form of the notes is SystemTap's, version 3: the address of the instruction, no symbol for files that were moved
//! by prelink, no semaphore; the provider `kmem`, the probe, and the arguments, here always
//! two words.

use core::arch::asm;

use kmem_core::cpu::CpuSet;
use kmem_core::platform::Event;

use crate::__probe_register as register;

/// A probe, as a function: so it is in the file once, and its note is there if it is.
macro_rules! probe {
    ($function:ident, $name:literal) => {
        #[inline(never)]
        fn $function(first: usize, second: usize) {
            // SAFETY: does nothing.
            unsafe {
                asm!(
                    "2: nop",
                    ".pushsection .note.stapsdt, \"\", \"note\"",
                    ".balign 4",
                    ".4byte 4f - 3f, 7f - 6f, 3",
                    "3: .asciz \"stapsdt\"",
                    "4: .balign 4",
                    "6: .8byte 2b, 0, 0",
                    ".asciz \"kmem\"",
                    concat!(".asciz \"", $name, "\""),
                    concat!(".asciz \"8@", register!(), "{first} 8@", register!(), "{second}\""),
                    "7: .balign 4",
                    ".popsection",
                    first = in(reg) first,
                    second = in(reg) second,
                    options(nomem, nostack, preserves_flags),
                );
            }
        }
    };
}

probe!(refill, "refill");
probe!(flush, "flush");
probe!(slab_made, "slab_made");
probe!(slabs_freed, "slabs_freed");
probe!(cpus_stopped, "cpus_stopped");
probe!(large_alloc, "large_alloc");
probe!(large_free, "large_free");

/// What the engine says of where memory went.
#[inline(always)]
pub(crate) fn event(event: Event<'_>) {
    // A cache's name ends with a zero.
    match event {
        Event::Refill { cache, objects } => refill(cache.name().as_ptr().addr(), objects),
        Event::Flush { cache, objects } => flush(cache.name().as_ptr().addr(), objects),
        Event::SlabMade { cache, bytes } => slab_made(cache.name().as_ptr().addr(), bytes),
        Event::SlabsFreed { bytes } => slabs_freed(bytes, 0usize),
        Event::LargeAllocated { address, bytes } => large_alloc(address, bytes),
        Event::LargeFreed { address, bytes } => large_free(address, bytes),
    }
}

/// CPUs were stopped, and are about to be fenced.
#[inline(always)]
pub(crate) fn stopped(cpus: &CpuSet) {
    cpus_stopped(cpus.iter().next().unwrap_or(0), cpus.len());
}
