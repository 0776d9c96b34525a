//! A slab's free objects, one bit each (1 is free), after the slab's descriptor. Guarded by the node's lock.

use core::ptr::NonNull;

/// Bits over memory that the descriptor owns.
#[derive(Clone, Copy)]
pub(super) struct Bitmap {
    words: NonNull<u64>,
}

impl Bitmap {
    /// Words for `bits` bits.
    pub(super) const fn words_for(bits: usize) -> usize {
        bits.div_ceil(64)
    }

    /// # Safety
    /// `words` has room for the bits that are asked about later, and belongs to the caller.
    pub(super) const unsafe fn new(words: NonNull<u64>) -> Self {
        Self { words }
    }

    /// Sets the first `bits` bits to `value`.
    ///
    /// # Safety
    /// As for all of this module: the node's lock is held (or the slab is private), and the words exist.
    pub(super) unsafe fn fill(self, bits: usize, value: bool) {
        for word in 0..Self::words_for(bits) {
            let width = (bits - word * 64).min(64);
            let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
            // SAFETY: the word exists.
            unsafe { self.words.add(word).write(if value { mask } else { 0 }) };
        }
    }

    /// # Safety
    /// See [`fill`](Self::fill).
    pub(super) unsafe fn get(self, bit: usize) -> bool {
        // SAFETY: the word exists.
        unsafe { self.words.add(bit / 64).read() & (1 << (bit % 64)) != 0 }
    }

    /// Sets a bit and returns what it was.
    ///
    /// # Safety
    /// See [`fill`](Self::fill).
    pub(super) unsafe fn replace(self, bit: usize, value: bool) -> bool {
        // SAFETY: the word exists.
        unsafe {
            let word = self.words.add(bit / 64).as_mut();
            let was = *word & (1 << (bit % 64)) != 0;
            if value {
                *word |= 1 << (bit % 64)
            } else {
                *word &= !(1 << (bit % 64))
            }
            was
        }
    }

    /// Sets the bits of `mask` in a word, and returns which of them were set.
    ///
    /// # Safety
    /// See [`fill`](Self::fill).
    pub(super) unsafe fn add(self, word: usize, mask: u64) -> u64 {
        // SAFETY: the word exists.
        let word = unsafe { self.words.add(word).as_mut() };
        let were = *word & mask;
        *word |= mask;
        were
    }

    /// Clears up to `want` set bits from word `from` on, in ascending order, and calls `found` with each. Returns the
    /// word to begin with next time.
    ///
    /// # Safety
    /// See [`fill`](Self::fill).
    pub(super) unsafe fn take(self, bits: usize, from: usize, want: usize, mut found: impl FnMut(usize)) -> usize {
        let mut left = want;
        let mut word = from;
        while left > 0 && word < Self::words_for(bits) {
            // SAFETY: the word exists.
            let mut set = unsafe { self.words.add(word).read() };
            while set != 0 && left > 0 {
                found(word * 64 + set.trailing_zeros() as usize);
                set &= set - 1;
                left -= 1;
            }
            // SAFETY: as above.
            unsafe { self.words.add(word).write(set) };
            if set == 0 {
                word += 1;
            }
        }
        word
    }

    /// The first bit of value `value` in `from..to`, or `to`.
    ///
    /// # Safety
    /// See [`fill`](Self::fill).
    pub(super) unsafe fn find(self, from: usize, to: usize, value: bool) -> usize {
        let mut at = from;
        while at < to {
            // SAFETY: the word exists.
            let word = unsafe { self.words.add(at / 64).read() };
            let found = (if value { word } else { !word }) >> (at % 64);
            if found != 0 {
                return (at + found.trailing_zeros() as usize).min(to);
            }
            at = (at / 64 + 1) * 64;
        }
        to
    }

    /// Sets the bits of `from..to` to `value`, and returns how many of them changed.
    ///
    /// # Safety
    /// See [`fill`](Self::fill).
    pub(super) unsafe fn set(self, from: usize, to: usize, value: bool) -> usize {
        let (mut at, mut changed) = (from, 0);
        while at < to {
            let end = (at / 64 + 1) * 64;
            let width = end.min(to) - at;
            let mask = u64::MAX >> (64 - width) << (at % 64);
            // SAFETY: the word exists.
            let word = unsafe { self.words.add(at / 64).as_mut() };
            let new = if value { *word | mask } else { *word & !mask };
            changed += (*word ^ new).count_ones() as usize;
            *word = new;
            at = end;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_across_words() {
        let mut words = [0u64; 3];
        // SAFETY: the words are this test's, and as many as are asked about.
        unsafe {
            let bits = Bitmap::new(NonNull::from(&mut words).cast());
            assert_eq!(bits.find(0, 150, true), 150);
            assert_eq!(bits.set(60, 130, true), 70);
            assert_eq!((bits.find(0, 150, true), bits.find(61, 150, true)), (60, 61));
            assert_eq!((bits.find(60, 150, false), bits.find(60, 130, false)), (130, 130));
            assert_eq!(bits.find(0, 50, true), 50);
            assert_eq!(bits.set(64, 100, false), 36);
            assert_eq!((bits.find(60, 150, false), bits.find(64, 150, true)), (64, 100));
            assert_eq!(bits.set(0, 150, true), 150 - 34);
        }
    }
}
