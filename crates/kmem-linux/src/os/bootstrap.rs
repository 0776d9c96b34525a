//! The first tables lie in zero pages that the program has anyway.
//!
//! A process that starts needs half a dozen tables, of which it touches a page or two each, and for a short program
//! every mapping counts: to make one and to end it with the process costs more than all that is done in it. What is
//! taken from here and freed serves no one again, but its memory is released. When all is taken, or a piece is too
//! large, [`pages::map`](super::pages::map) maps.
//!
//! # The section of large tables
//! They, and every other table of which most processes touch little or nothing, are in `.sbss`: a section that the
//! compiler knows to be zero, and that linkers do not gather with the other statics (`.bss`). So these, of which every
//! process writes a few as it starts, are in two pages, and not in six between the tables.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use kmem_core::sync::{AtomicUsize, Ordering};

use super::geometry::page;

/// Bytes: the tables of an engine for 16,384 caches, most of them the area in which every slot is empty, the areas of a
/// few CPUs, and a chunk of metadata.
const BYTES: usize = 448 << 10;

#[unsafe(link_section = ".sbss")]
static FIRST: Pages<BYTES> = Pages::new();
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Whole pages for `len` bytes, all zero, if there are as many left.
pub(crate) fn take(len: usize) -> Option<NonNull<u8>> {
    FIRST.take(&TAKEN, len)
}

/// Whether a piece was taken from here.
pub(crate) fn has(piece: NonNull<u8>) -> bool {
    FIRST.has(piece)
}

#[repr(align(4096))]
struct Pages<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: each byte is handed to one caller.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Pages<N> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    /// The next `len` bytes, of which `taken` were taken before: it stands elsewhere, to need no page of its own.
    fn take(&self, taken: &AtomicUsize, len: usize) -> Option<NonNull<u8>> {
        let len = len.checked_next_multiple_of(page()).filter(|len| *len <= N)?;
        // Pages may be larger than what this is aligned to: the first begins later then.
        let begin = self.0.get().addr();
        let skipped = begin.next_multiple_of(page()) - begin;
        let mut from = taken.load(Ordering::Relaxed);
        while skipped + from + len <= N {
            match taken.compare_exchange_weak(from, from + len, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return NonNull::new(self.0.get().cast::<u8>().wrapping_add(skipped + from)),
                Err(now) => from = now,
            }
        }
        None
    }

    fn has(&self, piece: NonNull<u8>) -> bool {
        piece.as_ptr().addr().wrapping_sub(self.0.get().addr()) < N
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_pages_apart_from_each_other_until_there_are_none() {
        const PAGE: usize = 4096;
        static PAGES: Pages<{ 7 * PAGE }> = Pages::new();
        let taken = AtomicUsize::new(0);
        let take = |len| PAGES.take(&taken, len);
        let pieces: std::vec::Vec<_> = std::iter::from_fn(|| take(PAGE + 1)).collect();
        let begin = PAGES.0.get().addr();
        assert_eq!(
            pieces.iter().map(|piece| piece.addr().get() - begin).collect::<std::vec::Vec<_>>(),
            [0, 2, 4].map(|n| n * PAGE)
        );
        assert!(pieces.iter().all(|piece| PAGES.has(*piece) && piece.addr().get().is_multiple_of(PAGE)));
        assert_eq!((take(usize::MAX), take(2 * PAGE)), (None, None));
        assert_eq!(take(1).map(|piece| piece.addr().get() - begin), Some(6 * PAGE));
        assert!(!PAGES.has(NonNull::from(&begin).cast()) && take(1).is_none());
    }
}
