//! malloc and free as whole functions: the class, the restartable sequence, and nothing else.
//!
//! A C program pays for every instruction here, twice a pair, so these are written out: no prologue, no spill, no call;
//! what is unusual *jumps* to an ordinary function with the arguments as they came, whose result is the caller's. The
//! macros are instantiated under the names that a program looks for, by who exports them.
//!
//! ```text
//! alloc(size):  size >= small -> a coarser table, size >= general -> slow; slot = FINE[size]; pop
//!               a miss -> slow(size)
//! free(p):      outside of the window, not aligned to 16 -> slow; slot = class map[granule of p]; push
//!               a miss -> slow(p)
//! ```
//! There are two of each. The first goes by CPU number, and its `slow` is the second, which goes by concurrency id
//! (`ids`). Either the first has limits of 0, or the second no table: it lets everything pass.
//!
//! Class 0 (large, NULL, of a named cache) has slot 0, which is always full (I3): a miss. The sequences are those of
//! [`rseq`](super), which says what may stand in one, and why slots and words are addressed by one register. Both
//! limits are 0 until the engine is published ([`hot`](super::hot)). The tables hold classes as the class map does,
//! times [`CLASS_STEP`], so that the slot's address is one instruction. `.ci/hot` counts the instructions and looks for
//! calls, spills and locks.
//!
//! # Unwinding
//! These functions push nothing, so that their unwind information is what every function begins with, at each
//! instruction and at the abort handler, which stands after the return. An aborted section still has the argument, and
//! jumps to `slow`.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod processor;

use kmem_core::classes::{FINE_MAX, MIN_ALIGN, SMALL, SMALL_CLASSES, class_of, size_of_class};
use kmem_core::pages::{CLASS_STEP, GRANULE_SHIFT};
use kmem_core::percpu::READABLE;
use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};

use super::{SLOT_BYTES, thread_data};

// What the templates count on.
const _: () = assert!(MIN_ALIGN == 16 && SMALL == 32768);
const _: () = assert!(CLASS_STEP as usize * 8 == SLOT_BYTES);

/// By how much an address is shifted to be the number of its granule.
pub const SHIFT: u32 = GRANULE_SHIFT;
/// Bytes below the cursor where the object to ask for stands.
pub const AHEAD: usize = READABLE * size_of::<usize>();

/// The class of each multiple of `step`, times [`CLASS_STEP`].
const fn table<const N: usize>(step: usize) -> [u8; N] {
    let mut table = [0; N];
    let mut index = 0;
    while index < N {
        if let Some(class) = class_of(index * step) {
            table[index] = class * CLASS_STEP;
        }
        index += 1;
    }
    table
}

/// For sizes by 16 bytes.
pub static FINE: [u8; FINE_MAX / 16 + 1] = table(16);
/// For sizes by 128 bytes.
pub static COARSE: [u8; SMALL / 128 + 1] = table(128);

/// The size of each class, where [`CLASS_STEP`] times the class is, by 2 bytes.
pub static SIZES: [u32; SMALL_CLASSES + 1] = {
    let mut sizes = [0; SMALL_CLASSES + 1];
    let mut class = 1;
    while class <= SMALL_CLASSES {
        sizes[class] = size_of_class(class as u8) as u32;
        class += 1;
    }
    sizes
};
const _: () = assert!(CLASS_STEP == 2);

/// The largest size of the finer table.
#[doc(hidden)]
pub const FINE_SIZE: usize = FINE_MAX;
/// The largest size of the coarser one.
#[doc(hidden)]
pub const SMALL_SIZE: usize = SMALL;

/// What entries go by while a profile counts.
#[repr(C)]
#[derive(Debug)]
pub struct Counted {
    /// The number of the profile; 0: there is none, or sections do not go by CPU number.
    session: AtomicU32,
    /// How far a thread's block is from its thread pointer.
    block: AtomicUsize,
}

/// The one of this program or shared object.
pub static COUNTED: Counted = Counted { session: AtomicU32::new(0), block: AtomicUsize::new(0) };

/// Lets entries count for this profile; 0: no longer.
pub(crate) fn count_for(session: u32) {
    COUNTED.block.store(thread_data::own_offset(), Ordering::Relaxed);
    COUNTED.session.store(session, Ordering::Release);
}

/// Whether entries count, and a thread whose block has this number does so for the same profile.
#[inline]
pub(crate) fn counts_for(session: u8) -> bool {
    session != 0 && COUNTED.session.load(Ordering::Acquire) == u32::from(session)
}

/// Where templates find what they count by.
#[doc(hidden)]
pub mod counted {
    use core::mem::offset_of;

    use super::super::thread_data::ThreadBlock;

    pub const BLOCK: usize = offset_of!(super::Counted, block);
    pub const SESSION: usize = offset_of!(ThreadBlock, session);
    pub const LEFT: usize = offset_of!(ThreadBlock, left);
}
