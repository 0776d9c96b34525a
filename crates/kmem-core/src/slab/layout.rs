//! How objects are placed in a slab: size, alignment, granules a slab, objects a slab, colours.
//!
//! A slab is the smallest number of granules that leaves at most an eighth of it unused, but at least 64 KiB if objects
//! are small, so that slabs are few. Objects longer than two granules come one to a slab, or a few, and leave at most a
//! sixteenth: such a slab comes and goes with its objects, so that its granules serve other sizes, and every byte by
//! which it is longer than they are counts if address space is limited or memory locked. What is left over moves the
//! first object of successive slabs by whole *colours*, so that the first objects of slabs do not compete for the same
//! cache sets; a slab without a rest has no colours, and colouring never costs memory.

use crate::pages::GRANULE;

/// Bytes of the smallest object: a word, so that object addresses are even and the mark of a magazine can be told from
/// them.
pub(super) const MIN_SIZE: usize = 8;
/// Bytes of the largest object of a cache.
pub const MAX_SIZE: usize = 4 << 20;
/// The largest alignment of a cache.
pub const MAX_ALIGN: usize = 64 << 10;
/// Bytes of a page: the unit in which a partly used slab is purged. Sources with larger pages keep such slabs whole.
pub(super) const PAGE: usize = 4096;
/// Bytes of a cache line. A colour moves objects by at least one.
const LINE: usize = 64;
/// Bytes of the largest object of which many share a slab, and of a slab of such objects at least.
const SHARED_MAX: usize = 32 << 10;
const SLAB_LEAST: usize = 64 << 10;
/// Bytes of the largest object that leaves at most a sixteenth of its slab.
const MIDDLE: usize = 256 << 10;

/// How a cache's slabs are carved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Bytes from one object to the next: the size rounded up to the alignment.
    pub size: usize,
    /// Alignment of every object.
    pub align: usize,
    /// Granules a slab.
    pub granules: usize,
    /// Objects a slab.
    pub objects: usize,
    /// Bytes from one colour to the next.
    pub colour_step: usize,
    /// How many colours there are; at least 1.
    pub colours: usize,
}

impl Layout {
    /// The layout for objects of `size` bytes aligned to `align`.
    ///
    /// `size` is between 1 and [`MAX_SIZE`], `align` a power of two up to [`MAX_ALIGN`]; the cache layer has checked
    /// both.
    pub fn new(size: usize, align: usize) -> Self {
        let align = align.max(MIN_SIZE);
        let size = size.next_multiple_of(align);
        let waste = |granules: usize| (granules * GRANULE) % size;
        let least = if size <= SHARED_MAX { SLAB_LEAST / GRANULE } else { size.div_ceil(GRANULE) };
        let part = if size > SHARED_MAX && size <= MIDDLE { 16 } else { 8 };
        let fits = |granules: &usize| waste(*granules) * part <= granules * GRANULE;
        // With one object more than that part needs less is lost: the search ends there at the latest.
        let most = least * (part + 1);
        let granules = (least..=most).find(fits).unwrap_or(most);
        // The natural alignment of a size (its largest power of two) survives colouring: general caches rely on it.
        let natural = (1usize << size.trailing_zeros()).min(GRANULE);
        let colour_step = LINE.max(natural).max(align);
        let colours = waste(granules) / colour_step + 1;
        Self { size, align, granules, objects: granules * GRANULE / size, colour_step, colours }
    }

    /// Bytes of a slab.
    pub const fn bytes(&self) -> usize {
        self.granules * GRANULE
    }

    /// Which next object is the first that has no cache line in common with an object; 1 for objects of a line and
    /// more, of which at most a part of one is shared.
    pub(crate) const fn stride(&self) -> usize {
        if self.size >= LINE {
            return 1;
        }
        // Objects begin at multiples of this.
        let natural = 1 << self.size.trailing_zeros();
        1 + (LINE - natural).div_ceil(self.size)
    }

    /// Pages of a slab.
    pub(super) const fn pages(&self) -> usize {
        self.bytes() / PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_an_eighth_or_a_sixteenth_is_wasted_and_everything_is_aligned() {
        for size in (1..70_000).chain((70_000..MAX_SIZE).step_by(4093)) {
            for align in [1, 8, 64, 4096] {
                let layout = Layout::new(size, align);
                let used = layout.objects * layout.size;
                assert!(layout.objects > 0 && used <= layout.bytes());
                let part = if (SHARED_MAX + 1..=MIDDLE).contains(&layout.size) { 16 } else { 8 };
                assert!((layout.bytes() - used) * part <= layout.bytes(), "{layout:?}");
                let last_colour = (layout.colours - 1) * layout.colour_step;
                assert!(used + last_colour <= layout.bytes(), "{layout:?}");
                assert!(layout.size.is_multiple_of(layout.align) && layout.colour_step.is_multiple_of(layout.align));
            }
        }
    }
}
