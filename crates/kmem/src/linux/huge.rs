//! Huge pages: which pieces of the window the kernel may back by 2 MiB at once.
//!
//! A program whose objects fill some megabytes spends much of its time on page faults and on walks of page tables,
//! most of all in a virtual machine, where each walk is two. Huge pages spare both. What they cost is memory: the
//! first byte of a step costs all of it. So
//!
//! ```text
//! the first 4 MiB of objects      small pages: small programs stay small
//! each step of 2 MiB behind them  advised when it is committed (MADV_HUGEPAGE)
//! a step that is purged in part   small pages again, beforehand (MADV_NOHUGEPAGE): else the kernel's collector of huge
//!                                 pages fills in what was given back, bit by bit, as soon as one page there is in use
//! a step that is purged whole     advised again
//! ```
//! All of it is advice: a kernel that refuses it, or whose setting is `never`, goes on with small pages. It is given
//! where `KMEM_HUGE=on` is in the environment: what a step holds beyond what was ever handed out stays resident, up to
//! two megabytes that `trim` does not find.

use kmem_core::sync::{AtomicUsize, Ordering};

use super::mode::variable;
use super::sys;

/// Bytes of a huge page, and of the steps in which the window is committed.
pub const STEP: usize = 2 << 20;
/// Bytes in whole steps that keep small pages.
const SMALL: usize = 2 * STEP;
/// For [`FROM`]: nothing may be huge, or nothing was committed yet (metadata is, in pieces that are no whole steps).
const OFF: usize = usize::MAX;
const UNSET: usize = usize::MAX - 1;

/// First address that may be huge.
static FROM: AtomicUsize = AtomicUsize::new(OFF);

/// Reads what is wanted, for a new window.
pub(super) fn begin() {
    let on = variable(c"KMEM_HUGE") == Some(b"on");
    FROM.store(if on { UNSET } else { OFF }, Ordering::Relaxed);
}

/// Memory was committed there, by one thread at a time.
pub(super) fn committed(addr: usize, len: usize) {
    let steps = Steps::of(addr, len);
    let (first, end) = steps.whole;
    if first < end && FROM.load(Ordering::Relaxed) == UNSET {
        FROM.store(first + SMALL, Ordering::Relaxed);
    }
    steps.advise(steps.whole, true);
}

/// Memory is about to be given back there.
pub(super) fn about_to_purge(addr: usize, len: usize) {
    let steps = Steps::of(addr, len);
    steps.advise(steps.whole, true);
    for part in steps.parts {
        steps.advise(part, false);
    }
}

/// The steps that a range touches; each range of steps from a first address to a last, empty where they are equal.
struct Steps {
    whole: (usize, usize),
    parts: [(usize, usize); 2],
}

impl Steps {
    fn of(addr: usize, len: usize) -> Self {
        let (floor, ceil) = (|at: usize| at & !(STEP - 1), |at: usize| at.next_multiple_of(STEP));
        let end = addr + len;
        if ceil(addr) > floor(end) {
            return Self { whole: (addr, addr), parts: [(floor(addr), ceil(end)), (end, end)] };
        }
        Self { whole: (ceil(addr), floor(end)), parts: [(floor(addr), ceil(addr)), (floor(end), ceil(end))] }
    }

    fn advise(&self, (from, to): (usize, usize), huge: bool) {
        let from = from.max(FROM.load(Ordering::Relaxed));
        if from < to {
            // SAFETY: advice on the size of pages changes nothing that a program can see but speed and memory; where
            // something else lies in a gap of the window, that holds for it too. A refusal leaves things as they are.
            let _ = unsafe { sys::madvise_huge(from, to - from, huge) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_whole_or_in_part() {
        let parts_of = |addr, len| {
            let Steps { whole, parts } = Steps::of(addr * STEP / 4, len * STEP / 4);
            let quarters = |(from, to): (usize, usize)| (from * 4 / STEP, (to - from) * 4 / STEP);
            (quarters(whole).1, quarters(parts[0]), quarters(parts[1]).1)
        };
        assert_eq!(parts_of(4, 4), (4, (4, 0), 0), "a step");
        assert_eq!(parts_of(5, 2), (0, (4, 4), 0), "inside of one");
        assert_eq!(parts_of(7, 2), (0, (4, 4), 4), "the ends of two");
        assert_eq!(parts_of(4, 6), (4, (4, 0), 4), "one, and the beginning of the next");
        assert_eq!(parts_of(6, 10), (8, (4, 4), 0), "the end of one, and two");
    }
}
