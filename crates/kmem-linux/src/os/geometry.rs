//! The sizes that memory goes by: pages, steps, and the window.
//!
//! A page has 4 KiB on x86-64; elsewhere the kernel decides, 4, 16 or 64 KiB, and says so in the auxiliary vector. One
//! binary serves all of them. A granule has 16 KiB, so with pages of 64 KiB pieces of the window begin and end inside
//! of pages: see [`pages`](super::pages).

use kmem_core::sync::{AtomicUsize, Ordering};

use super::environment::{PAGE_SIZE, auxiliary};
use crate::arch;

/// Bytes of a huge page where pages have 4 KiB, and of the steps in which the window is committed.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
/// Bytes of the largest window.
pub(crate) const WINDOW_MAX: usize = 1 << 40;

/// What the kernel said; 0: not asked yet.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a page.
#[inline]
pub fn page() -> usize {
    if arch::PAGES.0 == arch::PAGES.1 {
        return arch::PAGES.0;
    }
    match ASKED.load(Ordering::Relaxed) {
        0 => ask(),
        page => page,
    }
}

/// The page size by the kernel's word, or the largest that the processor has.
#[cold]
fn ask() -> usize {
    let fits = |page: &usize| page.is_power_of_two() && (arch::PAGES.0..=arch::PAGES.1).contains(page);
    let page = auxiliary(PAGE_SIZE).filter(fits).unwrap_or(arch::PAGES.1);
    ASKED.store(page, Ordering::Relaxed);
    page
}
