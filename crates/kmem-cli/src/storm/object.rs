//! The pattern that every object carries, from its allocation until it is freed.
//!
//! ```text
//! byte 0        8                   16                              size
//!      | state  | sequence, check   | base + k, base + 2k, ...       |
//! ```
//!
//! *State* is a word derived from the storm's tag and the object's own address: `live` while the object is held, `idle`
//! while it is free. It is exchanged atomically when an object is allocated, so if two threads are given one object,
//! however close in time, exactly one of them finds it `live` already: a doubled object is detected where it happens,
//! without a table of addresses and without a lock. If a typed cache overwrites the word with a value before we can
//! look, the older holder detects the doubled object when it frees it: it finds a *sequence* that is not the one it
//! wrote, in a pattern that is intact.
//!
//! *Sequence* numbers every allocation of the storm, in 48 bits. The *base* mixes tag, address and sequence, so a byte
//! from another object, from an earlier use of this object, or from anywhere else does not match; 16 bits of it are the
//! *check* of the sequence.
//!
//! The smallest object, 8 bytes, is only the state. An allocated object is a [`Held`]: having one proves that the
//! object came from the source it names and has not been freed.
//!
//! Words of objects are read before this process has written them (that is the point). This is defined behaviour: the
//! memory is a mapping of the page source, so it has zeros or what an earlier holder left there, and is never
//! uninitialised.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the smallest object that can carry a state; objects are aligned to at least as much.
pub const SMALLEST: usize = size_of::<u64>();

/// Difference between neighbouring pattern words.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// An object that is held. It is not `Clone`, and freeing it consumes it.
#[must_use = "an object that is dropped here is never freed: the storm will call it lost"]
pub struct Held {
    pub(super) at: NonNull<u8>,
    /// The number of its allocation.
    pub(super) sequence: u64,
    /// Which source it came from.
    pub(super) source: u32,
    /// What the source needs to free it.
    pub(super) parcel: Parcel,
}

/// A handle that a source has stored until the object is freed: its bytes, without its type and without the borrow in
/// it. Dropping a parcel does nothing.
pub struct Parcel(MaybeUninit<[*const (); 2]>);

impl Parcel {
    /// No handle.
    pub fn empty() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Stores a handle.
    pub fn with<H: Send>(handle: H) -> Self {
        const { assert!(size_of::<H>() <= size_of::<Self>() && align_of::<H>() <= align_of::<Self>()) };
        let mut parcel = Self::empty();
        // SAFETY: size and alignment fit, by the assertion.
        unsafe { parcel.0.as_mut_ptr().cast::<H>().write(handle) };
        parcel
    }

    /// Takes the handle out.
    ///
    /// # Safety
    /// An `H` was put in, and what it borrows still lives.
    pub unsafe fn open<H: Send>(self) -> H {
        // SAFETY: the caller's contract; the parcel is consumed, so the handle is taken out once.
        unsafe { self.0.as_ptr().cast::<H>().read() }
    }
}

// SAFETY: a `Held` is the only handle of its object and the object is plain memory; the handle in the parcel is `Send`;
// every source of the storm frees objects on any thread.
unsafe impl Send for Held {}

/// What marking or checking an object found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The pattern is intact.
    Whole,
    /// The same object was allocated to another holder in the meantime.
    Doubled,
    /// Bytes changed that no other thread may write.
    Corrupt,
}

/// How the objects of one cache are marked; caches differ in size and idle state.
#[derive(Clone, Copy)]
pub struct Marking {
    tag: u64,
    size: usize,
    idle: Idle,
}

/// The state word of an object that is free.
#[derive(Clone, Copy)]
pub enum Idle {
    /// Anything but `live`: pages are fresh, or belonged to another cache.
    Unknown,
    /// This word: the constructor wrote it, and every holder restores it.
    Constructed(u64),
}

/// Mixes 64 bits so that similar inputs have dissimilar outputs (the finaliser of splitmix64).
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Marking {
    /// Marks objects of `size` bytes, at least [`SMALLEST`].
    pub fn new(tag: u64, size: usize, idle: Idle) -> Self {
        assert!(size >= SMALLEST, "an object of {size} bytes has no room for its state");
        Self { tag, size, idle }
    }

    /// Bytes of an object.
    pub fn size(&self) -> usize {
        self.size
    }

    fn live(&self, at: NonNull<u8>) -> u64 {
        mix(self.tag ^ at.as_ptr().addr() as u64)
    }

    fn base(&self, at: NonNull<u8>, sequence: u64) -> u64 {
        mix(self.live(at) ^ sequence.wrapping_mul(STEP))
    }

    /// The second word: the sequence, and a check that it is one.
    fn numbered(&self, at: NonNull<u8>, sequence: u64) -> u64 {
        sequence << 16 | self.base(at, sequence) & 0xffff
    }

    /// Marks an object that was just allocated.
    ///
    /// `Doubled`: it is held already, and is left as its holder knows it. `Corrupt`: it was not as its constructor or
    /// last holder left it; it is marked nevertheless.
    ///
    /// # Safety
    /// `at` is an object of `self.size` bytes, aligned to 8, that was allocated to the caller.
    pub unsafe fn open(&self, at: NonNull<u8>, sequence: u64) -> Verdict {
        let live = self.live(at);
        // SAFETY: 8 aligned bytes by the contract; other threads access them only atomically.
        let state = unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) };
        let before = state.swap(live, Ordering::AcqRel);
        if before == live {
            return Verdict::Doubled;
        }
        // SAFETY: the object is ours (it was not live), of `size` bytes.
        unsafe { self.write(at, sequence) };
        match self.idle {
            Idle::Constructed(word) if word != before => Verdict::Corrupt,
            _ => Verdict::Whole,
        }
    }

    /// Marks an object whose value was just moved in, which overwrote whatever was there.
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn open_fresh(&self, at: NonNull<u8>, sequence: u64) -> Verdict {
        // SAFETY: as in `open`.
        let state = unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) };
        state.store(self.live(at), Ordering::Release);
        // SAFETY: the object was allocated to the caller.
        unsafe { self.write(at, sequence) };
        Verdict::Whole
    }

    /// Checks an object that is about to be freed, and marks it idle if it is intact.
    ///
    /// # Safety
    /// `at` was opened by this marking, and its memory is still mapped.
    pub unsafe fn close(&self, at: NonNull<u8>, sequence: u64) -> Verdict {
        let live = self.live(at);
        if self.size >= 16 {
            // SAFETY: 16 bytes by the test. Volatile: a second holder may be writing this very word.
            let found = unsafe { at.cast::<u64>().add(1).read_volatile() };
            if found != self.numbered(at, sequence) {
                // SAFETY: `size` bytes are mapped.
                let other = unsafe { self.fits(at, found >> 16) };
                return if other { Verdict::Doubled } else { Verdict::Corrupt };
            }
        }
        // SAFETY: as in `open`.
        let state = unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) };
        let idle = match self.idle {
            Idle::Unknown => !live,
            Idle::Constructed(word) => word,
        };
        match state.compare_exchange(live, idle, Ordering::AcqRel, Ordering::Acquire) {
            Err(found) if found == idle => return Verdict::Doubled,
            Err(_) => return Verdict::Corrupt,
            Ok(_) => {}
        }
        // SAFETY: `size` bytes are mapped.
        if unsafe { self.fits(at, sequence) } { Verdict::Whole } else { Verdict::Corrupt }
    }

    /// Writes sequence and pattern.
    ///
    /// # Safety
    /// `at` has `self.size` bytes, aligned to 8, that are the caller's to write.
    unsafe fn write(&self, at: NonNull<u8>, sequence: u64) {
        let mut word = self.base(at, sequence);
        // SAFETY: the caller's.
        let (words, tail) = unsafe { self.body(at) };
        if let Some((first, rest)) = words.split_first_mut() {
            *first = self.numbered(at, sequence);
            for place in rest {
                word = word.wrapping_add(STEP);
                *place = word;
            }
        }
        for (place, byte) in tail.iter_mut().zip(word.wrapping_add(STEP).to_le_bytes()) {
            *place = byte;
        }
    }

    /// Whether the pattern is that of allocation `sequence`.
    ///
    /// # Safety
    /// `at` has `self.size` mapped bytes, aligned to 8.
    unsafe fn fits(&self, at: NonNull<u8>, sequence: u64) -> bool {
        let mut word = self.base(at, sequence);
        // SAFETY: the caller's; read only here.
        let (words, tail) = unsafe { self.body(at) };
        // Differences are accumulated without branches, so that the loop can be vectorised.
        let mut wrong = 0;
        if let Some((first, rest)) = words.split_first() {
            wrong |= first ^ self.numbered(at, sequence);
            for found in rest {
                word = word.wrapping_add(STEP);
                wrong |= found ^ word;
            }
        }
        let end = word.wrapping_add(STEP).to_le_bytes();
        wrong == 0 && tail.iter().zip(end).all(|(found, byte)| *found == byte)
    }

    /// Everything after the state: whole words, then the bytes after the last of them.
    ///
    /// # Safety
    /// `at` has `self.size` initialised bytes, aligned to 8, and nothing else refers to them while the result lives.
    unsafe fn body<'a>(&self, at: NonNull<u8>) -> (&'a mut [u64], &'a mut [u8]) {
        let words = self.size / 8 - 1;
        // SAFETY: `8 + 8 * words + (size % 8) == size` bytes from `at` on, by the contract.
        unsafe {
            let first = at.cast::<u64>().add(1);
            (
                std::slice::from_raw_parts_mut(first.as_ptr(), words),
                std::slice::from_raw_parts_mut(first.add(words).cast().as_ptr(), self.size % 8),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that stands in for an object.
    fn object(words: &mut [u64]) -> NonNull<u8> {
        NonNull::from(words).cast()
    }

    fn marking(size: usize) -> Marking {
        Marking::new(7, size, Idle::Unknown)
    }

    #[test]
    fn an_untouched_object_is_whole_at_every_size() {
        for size in SMALLEST..=80 {
            let mut memory = [0xa5a5_a5a5_a5a5_a5a5; 10];
            let at = object(&mut memory);
            // SAFETY: `size` is at most the 80 bytes of `memory`.
            unsafe {
                assert_eq!(marking(size).open(at, 1), Verdict::Whole);
                assert_eq!(marking(size).close(at, 1), Verdict::Whole);
                assert_eq!(marking(size).open(at, 2), Verdict::Whole, "idle can be allocated again");
            }
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        for size in SMALLEST..=40 {
            for byte in 0..size {
                let mut memory = [0; 5];
                let at = object(&mut memory);
                // SAFETY: `size` and `byte` are within the 40 bytes of `memory`.
                unsafe {
                    assert_eq!(marking(size).open(at, 3), Verdict::Whole);
                    *at.add(byte).as_ptr() ^= 0x10;
                    assert_eq!(marking(size).close(at, 3), Verdict::Corrupt, "byte {byte} of {size}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_object() {
        for size in SMALLEST..=40 {
            let mut memory = [0; 6];
            let at = object(&mut memory);
            // SAFETY: `size` is within the 48 bytes of `memory`.
            unsafe { assert_eq!(marking(size).open(at, 3), Verdict::Whole) };
            let bytes: Vec<u8> = memory.iter().flat_map(|w| w.to_ne_bytes()).collect();
            assert!(bytes[size..].iter().all(|&b| b == 0), "size {size}");
        }
    }

    #[test]
    fn an_object_handed_out_twice_is_found_at_the_second_hand_out() {
        for size in [8, 16, 64] {
            let mut memory = [0; 8];
            let at = object(&mut memory);
            // SAFETY: `size` is within `memory`.
            unsafe {
                assert_eq!(marking(size).open(at, 1), Verdict::Whole);
                assert_eq!(marking(size).open(at, 2), Verdict::Doubled);
                assert_eq!(marking(size).close(at, 1), Verdict::Whole, "the first holder is not disturbed");
                assert_eq!(marking(size).close(at, 1), Verdict::Doubled, "freed twice");
            }
        }
    }

    #[test]
    fn a_value_moved_over_a_held_object_is_found_by_its_first_holder() {
        let mut memory = [0; 8];
        let at = object(&mut memory);
        // SAFETY: 64 bytes.
        unsafe {
            assert_eq!(marking(64).open_fresh(at, 1), Verdict::Whole);
            at.cast::<[u64; 8]>().write([0; 8]);
            assert_eq!(marking(64).open_fresh(at, 2), Verdict::Whole);
            assert_eq!(marking(64).close(at, 1), Verdict::Doubled);
            assert_eq!(marking(64).close(at, 2), Verdict::Whole);
        }
    }

    #[test]
    fn a_constructed_object_must_come_back_constructed() {
        let marking = Marking::new(7, 32, Idle::Constructed(99));
        let mut memory = [99, 0, 0, 0];
        let at = object(&mut memory);
        // SAFETY: 32 bytes.
        unsafe {
            assert_eq!(marking.open(at, 1), Verdict::Whole);
            assert_eq!(marking.close(at, 1), Verdict::Whole);
            assert_eq!(marking.open(at, 2), Verdict::Whole, "restored by close");
            assert_eq!(marking.close(at, 2), Verdict::Whole);
            *at.as_ptr() = 0;
            assert_eq!(marking.open(at, 3), Verdict::Corrupt, "the constructed state was lost");
        }
    }
}
