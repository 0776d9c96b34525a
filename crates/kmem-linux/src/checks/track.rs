//! Who allocated an object, and who freed it: the stack, the thread, the CPU, the time.
//!
//! Stacks are kept once each, in a table that only grows, and named by their number.

use core::ffi::c_int;

use kmem_core::sync::Word;

use super::lock::Locked;
use super::options::Options;
use super::zone;
use crate::os::sys::{self, PROT_READ, PROT_WRITE};
use crate::stack;

/// Frames that are kept of a stack.
pub(super) const FRAMES: usize = 16;
/// Words of the table of stacks, a power of two: each stack takes a length, a link and its frames.
const WORDS: usize = 1 << 22;
const BUCKETS: usize = 1 << 14;
const BYTES: usize = WORDS * 8 + BUCKETS * 4;

/// Who did something, when: all 0 where that is not known.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) stack: u32,
    pub(super) thread: u32,
    pub(super) cpu: u32,
    /// Milliseconds since the machine started.
    pub(super) at: u32,
}

/// Both ends of an object's life.
#[derive(Clone, Copy, Default)]
pub(super) struct Track {
    pub(super) allocated: Mark,
    pub(super) freed: Mark,
}

impl Track {
    pub(super) fn allocated(mark: Mark) -> Self {
        Self { allocated: mark, freed: Mark::default() }
    }

    pub(super) fn freed(&mut self, mark: Mark) {
        self.freed = mark;
    }
}

impl Mark {
    /// The calling thread, here and now, if that is to be noted. No lock of the checked heap is held.
    #[inline]
    pub(super) fn now() -> Self {
        if Options::chosen().notes_users() { Self::taken() } else { Self::default() }
    }

    /// The calling thread, here and now. No lock of the checked heap is held.
    #[cold]
    #[inline(never)]
    pub(super) fn taken() -> Self {
        let mut frames = [0; FRAMES];
        let count = stack::capture(&mut frames);
        let is_ready = crate::os::environment::libc_is_ready();
        let now = if is_ready { sys::clock_monotonic().unwrap_or(0) } else { 0 };
        Self {
            stack: keep(&frames[..count]),
            thread: sys::gettid() as u32,
            // By libc, which asks no system call: a sandbox may end the program for one.
            cpu: if is_ready { sched_getcpu() as u32 } else { 0 },
            at: (now / 1_000_000) as u32,
        }
    }
}

#[link(name = "c")]
unsafe extern "C" {
    safe fn sched_getcpu() -> c_int;
}

struct Stacks {
    words: usize,
    buckets: usize,
    used: usize,
}

static STACKS: Locked<Stacks> = Locked::new(Stacks { words: 0, buckets: 0, used: 1 });

/// The word of the lock, for fork.
pub(super) fn word() -> &'static Word {
    &STACKS.word
}

/// Where the table is, and how long: nowhere, if there is none.
pub(super) fn table() -> (usize, usize) {
    STACKS.with(|stacks| (stacks.words, if stacks.words == 0 { 0 } else { BYTES }))
}

/// The number of a stack, which is kept; 0 where it has no frame, or there is no memory.
fn keep(frames: &[usize]) -> u32 {
    if frames.is_empty() {
        return 0;
    }
    let hash =
        frames.iter().fold(0usize, |hash, frame| (hash ^ frame).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
    STACKS.with(|stacks| {
        if stacks.words == 0 {
            let table = zone::map(BYTES, PROT_READ | PROT_WRITE);
            let Some(table) = table else { return 0 };
            (stacks.words, stacks.buckets) = (table, table + WORDS * 8);
        }
        // SAFETY: the table is as long as is counted here, and reached under the lock only; numbers in it are those of
        // stacks that were written.
        unsafe {
            let bucket = (stacks.buckets as *mut u32).add(hash >> 50);
            let mut at = bucket.read();
            while at != 0 {
                if frames_at(stacks.words, at) == frames {
                    return at;
                }
                at = (stacks.words as *const usize).add(at as usize + 1).read() as u32;
            }
            if stacks.used + 2 + frames.len() > WORDS {
                return 0;
            }
            let number = stacks.used as u32;
            let place = (stacks.words as *mut usize).add(stacks.used);
            place.write(frames.len());
            place.add(1).write(bucket.read() as usize);
            place.add(2).copy_from_nonoverlapping(frames.as_ptr(), frames.len());
            bucket.write(number);
            stacks.used += 2 + frames.len();
            number
        }
    })
}

/// # Safety
/// The number is that of a stack of the table at `words`.
unsafe fn frames_at<'a>(words: usize, number: u32) -> &'a [usize] {
    // SAFETY: the caller's promise; stacks are not written again.
    unsafe {
        let place = (words as *const usize).add(number as usize);
        core::slice::from_raw_parts(place.add(2), place.read())
    }
}

/// The frames of a stack, the innermost first.
pub(super) fn frames(number: u32) -> &'static [usize] {
    let words = STACKS.with(|stacks| stacks.words);
    // SAFETY: marks carry numbers of stacks that were kept.
    if number == 0 || words == 0 { &[] } else { unsafe { frames_at(words, number) } }
}
