//! Size classes of the general caches: from a size to a class, by one table look-up; and their names.
//!
//! Up to 128 bytes the classes are 16 bytes apart, from there on eight to a doubling, so that at most an eighth of an
//! object is unused (except among the smallest). Class 0 is no class. A class's objects are aligned to the largest
//! power of two that divides its size, up to a granule.
//!
//! Up to [`SMALL`] bytes, size and alignment tell the class of the memory that serves them: a program that frees with
//! both need not look at the address. Above that they do not, and the address is looked up. So larger memory may become
//! longer or shorter in place, whether it is an object or a run of its own, and the program that frees it need not know
//! which.

use crate::pages::{CLASS_STEP, GRANULE};

/// Bytes of the largest general object; larger ones are runs of their own.
pub const LARGEST: usize = 256 << 10;
/// Classes 1 to this exist.
pub const CLASSES: usize = SMALL_CLASSES + 3 * 8;
/// Bytes of the largest object whose class its size tells.
pub const SMALL: usize = 32 << 10;
/// Classes 1 to this have such objects.
pub const SMALL_CLASSES: usize = 8 + 8 * 8;
/// Every general object is aligned to at least this.
pub const MIN_ALIGN: usize = 16;

const _: () = assert!(CLASSES * CLASS_STEP as usize <= u8::MAX as usize, "a class has a byte in the class map");

/// Sizes up to here are looked up by 16 bytes, those up to [`SMALL`] by 128, and larger ones by a page.
pub const FINE_MAX: usize = 1024;
const FINE: usize = FINE_MAX / 16 + 1;
const COARSE: usize = SMALL / 128 + 1;
const PAGE: usize = 4096;
const BY_PAGE: usize = LARGEST / PAGE + 1;

/// Bytes of each class's objects.
pub static SIZES: [u32; CLASSES + 1] = sizes();
static FINE_CLASS: [u8; FINE] = table(16);
static COARSE_CLASS: [u8; COARSE] = table(128);
static PAGE_CLASS: [u8; BY_PAGE] = table(PAGE);

const fn sizes() -> [u32; CLASSES + 1] {
    let mut sizes = [0; CLASSES + 1];
    let mut class = 1;
    while class <= 8 {
        sizes[class] = class as u32 * 16;
        class += 1;
    }
    while class <= CLASSES {
        let base = 128u32 << ((class - 9) / 8);
        sizes[class] = base + base / 8 * ((class as u32 - 9) % 8 + 1);
        class += 1;
    }
    sizes
}

/// The smallest class that holds `size` bytes.
const fn search(size: usize) -> u8 {
    let sizes = sizes();
    let mut class = 1;
    while (sizes[class] as usize) < size {
        class += 1;
    }
    class as u8
}

/// The class of each multiple of `step`.
const fn table<const N: usize>(step: usize) -> [u8; N] {
    let mut table = [0; N];
    let mut index = 0;
    while index < N {
        table[index] = search(index * step);
        index += 1;
    }
    table
}

/// The class for objects of `size` bytes (0 counts as 1); `None` above [`LARGEST`].
#[inline(always)]
pub const fn class_of(size: usize) -> Option<u8> {
    if size <= FINE_MAX {
        Some(FINE_CLASS[size.div_ceil(16)])
    } else if size <= SMALL {
        Some(COARSE_CLASS[size.div_ceil(128)])
    } else if size <= LARGEST {
        Some(PAGE_CLASS[size.div_ceil(PAGE)])
    } else {
        None
    }
}

/// The class for objects of `size` bytes aligned to `align`, a power of two; `None` if there is none.
#[inline]
pub fn class_of_aligned(size: usize, align: usize) -> Option<u8> {
    if align <= MIN_ALIGN {
        return class_of(size);
    }
    if align > GRANULE {
        return None;
    }
    let size = size.max(1).checked_next_multiple_of(align)?;
    let mut class = class_of(size)?;
    // Sizes are multiples of ever larger powers of two: the next power of two is at most eight classes away.
    while !size_of_class(class).is_multiple_of(align) {
        class += 1;
        if class as usize > CLASSES {
            return None;
        }
    }
    Some(class)
}

/// The class that size and alignment tell by themselves: memory that serves them is an object of this class. `None` if
/// only the address tells what serves them.
#[inline]
pub fn class_told_by(size: usize, align: usize) -> Option<u8> {
    class_of_aligned(size, align).filter(|class| *class as usize <= SMALL_CLASSES)
}

/// Bytes of the objects of `class`.
#[inline(always)]
pub const fn size_of_class(class: u8) -> usize {
    SIZES[class as usize] as usize
}

/// How the names of general caches begin.
const PREFIX: &str = "kmalloc-";

/// The name of a general cache: [`PREFIX`] and the size.
pub(crate) fn name_of(class: u8, into: &mut [u8; 16]) -> &str {
    into[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
    let mut digits = size_of_class(class);
    let mut len = PREFIX.len() + digits.ilog10() as usize + 1;
    let end = len;
    while digits > 0 {
        len -= 1;
        into[len] = b'0' + (digits % 10) as u8;
        digits /= 10;
    }
    core::str::from_utf8(&into[..end]).unwrap_or(PREFIX)
}

/// Whether a name is that of a general cache, made or not.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX) && (1..=CLASSES as u8).any(|class| name_of(class, &mut [0; 16]) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_holds_it() {
        assert_eq!((SIZES[SMALL_CLASSES] as usize, SIZES[CLASSES] as usize), (SMALL, LARGEST));
        for size in 0..=LARGEST {
            let class = class_of(size).unwrap();
            assert!(size_of_class(class) >= size);
            assert!(class == 1 || size_of_class(class - 1) < size, "{size}");
            if size > 128 {
                assert!(size_of_class(class) * 8 <= size * 9 + 8, "{size} wastes more than an eighth");
            }
        }
        assert_eq!(class_of(LARGEST + 1), None);
    }

    #[test]
    fn aligned_classes_are_aligned() {
        for align in [16, 32, 64, 128, 256, 1024, 4096, 16384] {
            for size in (0..=LARGEST).step_by(7) {
                if let Some(class) = class_of_aligned(size, align) {
                    assert!(size_of_class(class) >= size && size_of_class(class).is_multiple_of(align));
                    assert_eq!(class_told_by(size, align).is_some(), size_of_class(class) <= SMALL, "{size} {align}");
                }
            }
        }
        assert_eq!(class_of_aligned(1, 2 * GRANULE), None);
        assert_eq!(class_of_aligned(usize::MAX, 64), None);
    }
}
