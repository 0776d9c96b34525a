//! The memory of sites: chunks, which are filled one after the other.
//!
//! A reader outside goes by the links of the chunks ([`layout`](super::layout)). Here their addresses are in a table as
//! well, and how far the last one is used is in a word of ours, because a program may write where it should not: a link
//! that it wrote over leads nowhere, and a length that it wrote over leads past the end. So the writer, at the end of
//! the program, takes the chunks from the table and checks each site before it believes it.

use core::ptr::{NonNull, null_mut};

use kmem_core::sync::{AtomicPtr, AtomicU64, Ordering};

use super::layout::{CHUNK, chunk, head, site};
use super::stack::DEPTH;
use super::state::{Site, set_head};
use crate::os::pages;

/// Chunks at most, 64 MiB: a profile with so many sites has no use for more.
const MOST: usize = 1024;
/// Words of a chunk.
const WORDS: usize = CHUNK / size_of::<u64>();

/// The chunks, in their order; null: no more. Written under the profile's lock.
// Large: see `os/bootstrap.rs`.
#[unsafe(link_section = ".sbss")]
static TABLE: [AtomicPtr<u64>; MOST] = [const { AtomicPtr::new(null_mut()) }; MOST];

/// What the lock guards of it.
pub(super) struct Chunks {
    count: usize,
    /// Words of the last one that are used.
    used: usize,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { count: 0, used: 0 }
    }

    fn last(&self) -> Option<NonNull<u64>> {
        let place = TABLE.get(self.count.checked_sub(1)?)?;
        NonNull::new(place.load(Ordering::Relaxed))
    }

    /// Unmaps all of them.
    pub(super) fn forget(&mut self) {
        set_head(head::CHUNKS, 0);
        for place in &TABLE[..self.count] {
            if let Some(memory) = NonNull::new(place.swap(null_mut(), Ordering::Relaxed)) {
                // SAFETY: the mapping is ours and has this length; its sites are no longer in use.
                unsafe { pages::unmap(memory.cast(), CHUNK) };
            }
        }
        *self = Self::new();
    }

    /// Room for a site of so many words, all zero, which readers do not see before it is [filled](Self::filled).
    pub(super) fn room(&mut self, words: usize) -> Option<Site> {
        if self.count == 0 || self.used + words > WORDS {
            self.map()?;
        }
        // SAFETY: there is as much room behind what is used.
        self.last().map(|memory| unsafe { memory.add(self.used) })
    }

    /// The room of so many words has its content.
    pub(super) fn filled(&mut self, words: usize) {
        self.used += words;
        if let Some(memory) = self.last() {
            // SAFETY: the chunk is ours. Readers look at no more than is used.
            unsafe { AtomicU64::from_ptr(memory.add(chunk::USED).as_ptr()) }.store(self.used as u64, Ordering::Release);
        }
    }

    /// One more chunk.
    fn map(&mut self) -> Option<()> {
        let place = TABLE.get(self.count)?;
        let memory = pages::map(CHUNK)?.cast::<u64>();
        // SAFETY: the mapping is ours and zero.
        unsafe { memory.add(chunk::USED).write(chunk::WORDS as u64) };
        match self.last() {
            None => set_head(head::CHUNKS, memory.as_ptr() as usize),
            // SAFETY: the chunk is ours; its link is read from outside only.
            Some(last) => unsafe { AtomicU64::from_ptr(last.add(chunk::NEXT).as_ptr()) }
                .store(memory.as_ptr() as u64, Ordering::Release),
        }
        place.store(memory.as_ptr(), Ordering::Release);
        (self.count, self.used) = (self.count + 1, chunk::WORDS);
        Some(())
    }
}

/// Calls `visit` with each site of a profile that has ended, and returns whether all were sound. In a chunk with one
/// that is not, what follows it is left out, because its length is not known.
pub(super) fn for_each(mut visit: impl FnMut(&[u64])) -> bool {
    let mut are_sound = true;
    for memory in TABLE.iter().map_while(|place| NonNull::new(place.load(Ordering::Acquire))) {
        // SAFETY: chunks stay, and nothing writes to them, because the profile has ended.
        let words = unsafe { core::slice::from_raw_parts(memory.as_ptr(), WORDS) };
        are_sound &= for_each_of(words, &mut visit);
    }
    are_sound
}

/// The same for one chunk.
fn for_each_of(words: &[u64], visit: &mut impl FnMut(&[u64])) -> bool {
    let used = words[chunk::USED] as usize;
    let is_whole = (chunk::WORDS..=words.len()).contains(&used);
    let mut rest = &words[chunk::WORDS..if is_whole { used } else { words.len() }];
    while !rest.is_empty() {
        let is_sound = rest.len() >= site::CALLERS
            && rest[site::DEPTH] <= DEPTH as u64
            && rest[site::FREED] <= rest[site::SAMPLED]
            && rest[site::USABLE] > 0;
        if !is_sound {
            return false;
        }
        let Some((one, others)) = rest.split_at_checked(site::CALLERS + rest[site::DEPTH] as usize) else {
            return false;
        };
        visit(one);
        rest = others;
    }
    is_whole
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A chunk with three sites of two callers, and where they begin.
    fn chunk_of_three() -> (Vec<u64>, [usize; 3]) {
        let (mut words, len) = (vec![0; WORDS], site::CALLERS + 2);
        let places = [0, 1, 2].map(|number| chunk::WORDS + number * len);
        for at in places {
            (words[at + site::USABLE], words[at + site::DEPTH]) = (16, 2);
        }
        words[chunk::USED] = (chunk::WORDS + 3 * len) as u64;
        (words, places)
    }

    fn seen(words: &[u64]) -> (usize, bool) {
        let mut count = 0;
        let are_sound = for_each_of(words, &mut |_| count += 1);
        (count, are_sound)
    }

    #[test]
    fn what_precedes_a_site_that_was_written_over_is_read() {
        let (words, [_, second, _]) = chunk_of_three();
        assert_eq!(seen(&words), (3, true));
        for (word, value) in
            [(site::DEPTH, DEPTH as u64 + 1), (site::DEPTH, u64::MAX), (site::FREED, 1), (site::USABLE, 0)]
        {
            let mut wrong = words.clone();
            wrong[second + word] = value;
            assert_eq!(seen(&wrong), (1, false), "word {word}: {value}");
        }
    }

    #[test]
    fn of_a_chunk_whose_length_was_written_over_all_sites_are_read() {
        let (words, _) = chunk_of_three();
        for used in [0, WORDS as u64 + 1, u64::MAX] {
            let mut wrong = words.clone();
            wrong[chunk::USED] = used;
            // What follows them is zero, and no site.
            assert_eq!(seen(&wrong), (3, false), "{used}");
        }
        let mut short = words.clone();
        short[chunk::USED] -= 1;
        assert_eq!(seen(&short), (2, false));
    }
}
