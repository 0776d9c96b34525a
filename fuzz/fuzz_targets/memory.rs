//! Allocated memory, with a pattern that nothing else may change.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use kmem_malloc::c;

/// In memory larger than this the pattern is only at both ends of each page, to save the fuzzer's time.
const DENSE: usize = 2048;
const PAGE: usize = 4096;

/// A piece of memory, in use.
pub struct Memory {
    address: *mut c_void,
    usable: usize,
    seed: u64,
}

// SAFETY: the memory belongs to its owner, on whatever thread.
unsafe impl Send for Memory {}

/// The contents of memory that realloc may have moved.
pub struct Kept {
    usable: usize,
    seed: u64,
}

/// The positions of the pattern in `len` bytes.
fn places(len: usize) -> impl Iterator<Item = usize> {
    let step = if len <= DENSE { 1 } else { PAGE };
    (0..len).step_by(step).chain(len.checked_sub(1))
}

fn byte(seed: u64, at: usize) -> u8 {
    (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8 ^ at as u8 ^ (at >> 8) as u8
}

/// Checks that the first `size` bytes that calloc returned are zero.
pub fn is_zero(address: *mut c_void, size: usize) {
    if !address.is_null() {
        // SAFETY: the memory belongs to the caller and has that length.
        let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), size) };
        assert!(bytes.iter().all(|byte| *byte == 0), "calloc's memory at {address:?} is not zero");
    }
}

impl Memory {
    /// Memory of at least `size` bytes that was just allocated.
    pub fn new(address: *mut c_void, size: usize, align: usize) -> Self {
        assert!((address as usize).is_multiple_of(align.max(16)), "{address:?} is not aligned to {align}");
        let mut memory = Self { address, usable: size, seed: 0 };
        memory.usable = memory.usable_size(size);
        memory
    }

    fn usable_size(&self, size: usize) -> usize {
        // SAFETY: the memory is ours.
        let usable = unsafe { c::malloc_usable_size(self.address) };
        assert!(usable >= size, "{usable} of {size} bytes are usable at {:?}", self.address);
        usable
    }

    /// All of it is ours, including what was not asked for.
    pub fn filled(mut self) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        self.seed = SEED.fetch_add(1, Ordering::Relaxed);
        for at in places(self.usable) {
            // SAFETY: the memory is ours and has that length.
            unsafe { self.address.cast::<u8>().add(at).write(byte(self.seed, at)) };
        }
        self
    }

    fn is_intact(&self, len: usize, was: usize) {
        for at in places(was).filter(|at| *at < len) {
            // SAFETY: as above.
            let found = unsafe { self.address.cast::<u8>().add(at).read() };
            assert_eq!(found, byte(self.seed, at), "byte {at} of {} at {:?} was changed", self.usable, self.address);
        }
    }

    /// Checks the memory before it is freed or moved, and returns its address.
    pub fn give(self) -> (*mut c_void, Kept) {
        self.is_intact(self.usable, self.usable);
        assert_eq!(self.usable_size(0), self.usable, "the usable size changes");
        (self.address, Kept { usable: self.usable, seed: self.seed })
    }

    /// Frees it by one of the three functions for that.
    pub fn free(self, how: u8) {
        let (address, kept) = self.give();
        // SAFETY: the memory is ours and no longer used. The sizes are those of an allocation.
        unsafe {
            match how % 3 {
                0 => c::free(address),
                1 => c::free_sized(address, kept.usable),
                _ => c::free_aligned_sized(address, 16, kept.usable),
            }
        }
    }
}

impl Kept {
    /// The memory was not moved.
    pub fn back(self, address: *mut c_void) -> Memory {
        let memory = Memory { address, usable: self.usable, seed: self.seed };
        memory.is_intact(self.usable, self.usable);
        memory
    }

    /// The memory may have been moved, and has at least `size` bytes now.
    pub fn moved(self, address: *mut c_void, size: usize) -> Memory {
        let mut memory = Memory::new(address, size, 16);
        memory.seed = self.seed;
        memory.is_intact(size.min(self.usable), self.usable);
        memory.filled()
    }
}
