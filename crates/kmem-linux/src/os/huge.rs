//! Huge pages: which pieces of the window the kernel may back by 2 MiB at once.
//!
//! A program whose objects fill some megabytes spends much of its time on page faults and on walks of page tables,
//! most of all in a virtual machine, where each walk is two. Huge pages spare both. What they cost is memory: the
//! first byte of a step costs all of it. So
//!
//! ```text
//! the first steps of the window   small pages: small programs stay small (the engine says nothing of them)
//! a step behind them that is      advised (MADV_HUGEPAGE), if small objects will fill it, or fill a good part of what
//! handed out first                was handed out lately; for large ones nobody knows whether all of their pages will
//!                                 be used
//! a step that is purged, if only  small pages again, beforehand (MADV_NOHUGEPAGE): else the kernel's collector of huge
//! in part                         pages fills in what was given back, bit by bit, as soon as one page there is in use
//! ```
//! The first object in a step brings all of it into memory. So the engine asks for the [`unit()`] of what it hands out,
//! and counts the rest of it as free memory, which serves first, and decays if nothing needs it.
//!
//! Where the kernel's setting is `always` it would make huge pages of all of it. So what is committed has small pages,
//! until it is advised: a small program there would begin with two megabytes, and nobody would know what comes with the
//! first object.
//!
//! With larger pages a huge page is no step (32 MiB with pages of 16 KiB, 512 MiB with 64): no advice is given there.
//!
//! All of it is advice: a kernel that refuses it, or whose setting is `never`, goes on with small pages. With
//! `KMEM_HUGE=off` in the environment none is given.

use kmem_core::sync::{AtomicU64, AtomicUsize, Ordering};

use super::geometry::{HUGE_PAGE, WINDOW_MAX, page};
use super::settings::{self, Setting};
use super::sys;

/// The page size with which a step is a huge page.
const SMALL_PAGE: usize = 4096;
/// For [`FROM`]: nothing may be huge.
const OFF: usize = usize::MAX;

/// Where the window begins.
static FROM: AtomicUsize = AtomicUsize::new(OFF);
/// A bit for each step from [`FROM`] on: it was advised. (Of these 64 KiB only those pages cost anything that are
/// written.) Changed by the thread that hands out or releases memory there.
// Large: see `os/bootstrap.rs`.
#[unsafe(link_section = ".sbss")]
static HUGE: [AtomicU64; WINDOW_MAX / HUGE_PAGE / 64] = [const { AtomicU64::new(0) }; WINDOW_MAX / HUGE_PAGE / 64];

/// Reads what is wanted, for a new window that begins there.
pub(crate) fn begin(window: usize) {
    let off = page() > SMALL_PAGE || settings::word(Setting::Huge) == Some("off");
    FROM.store(if off { OFF } else { window & !(HUGE_PAGE - 1) }, Ordering::Relaxed);
}

/// Memory was committed there.
pub(crate) fn committed(addr: usize, len: usize) {
    if FROM.load(Ordering::Relaxed) != OFF {
        // SAFETY: the page size changes nothing that a program can see but speed and memory.
        let _ = unsafe { sys::madvise_huge(addr, len, false) };
    }
}

/// Bytes of the piece around `addr` that comes into memory as a whole.
pub(crate) fn unit(addr: usize) -> usize {
    let is_huge = bit_of(addr).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0);
    if is_huge { HUGE_PAGE } else { page() }
}

/// Untouched memory there is handed out, and will be filled.
pub(crate) fn fills(addr: usize, len: usize) {
    let (first, end) = whole_steps(addr, len);
    for step in (first..end).step_by(HUGE_PAGE) {
        let Some((word, bit)) = bit_of(step) else { continue };
        // SAFETY: the page size changes nothing that a program can see but speed and memory.
        if unsafe { sys::madvise_huge(step, HUGE_PAGE, true) }.is_ok() {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

/// Memory is about to be given back there; steps of which that is a part have small pages from now on.
pub(crate) fn about_to_purge(addr: usize, len: usize) {
    for step in (addr & !(HUGE_PAGE - 1)..addr + len).step_by(HUGE_PAGE) {
        let Some((word, bit)) = bit_of(step) else { continue };
        if word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
            // SAFETY: as above. A refusal (too many mappings) leaves things as they are.
            let _ = unsafe { sys::madvise_huge(step, HUGE_PAGE, false) };
        }
    }
}

/// Where it is noted that the step at `addr` was advised; `None`: it is never.
fn bit_of(addr: usize) -> Option<(&'static AtomicU64, u64)> {
    let step = addr.checked_sub(FROM.load(Ordering::Relaxed))? / HUGE_PAGE;
    Some((HUGE.get(step / 64)?, 1 << (step % 64)))
}

/// From the first address to the end of the whole steps of a range; the end is not after the first where there are
/// none.
fn whole_steps(addr: usize, len: usize) -> (usize, usize) {
    (addr.next_multiple_of(HUGE_PAGE), (addr + len) & !(HUGE_PAGE - 1))
}
