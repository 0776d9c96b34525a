//! A processor for which nobody wrote sections: the process is in the fallback.

use core::ptr::NonNull;

use kmem_core::percpu::SlotIndex;

use super::missing::misses;

/// Whether this processor has sections.
pub(crate) const SECTIONS: bool = false;
/// Whether it has sections by concurrency id.
pub(crate) const IDS: bool = false;

pub use super::missing::{given, given as given_by_id};

misses!();

/// No CPU: without sections no thread is registered.
#[inline]
pub fn current_cpu() -> usize {
    usize::MAX
}
