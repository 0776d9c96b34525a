//! A map from words to words, in mappings of its own: open addressing, at most three quarters full.
//!
//! A removal moves what follows back instead of leaving a mark, so a map in which things come and go does not fill up.

use core::ptr::{NonNull, null_mut};

use crate::os::pages;

/// Entries of the first table.
const FIRST: usize = 4096;

/// One key, which is not 0, and its value; the key 0 is a free place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    key: usize,
    value: usize,
}

/// The map. Whoever has it has it alone.
pub(super) struct Map {
    entries: *mut Entry,
    /// A power of two, or 0.
    len: usize,
    used: usize,
}

impl Map {
    pub(super) const fn new() -> Self {
        Self { entries: null_mut(), len: 0, used: 0 }
    }

    fn home(&self, key: usize) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) & (self.len - 1)
    }

    /// The entry at a place, any number.
    fn at(&mut self, place: usize) -> &mut Entry {
        // SAFETY: the table has `len` entries, which is a power of two.
        unsafe { &mut *self.entries.add(place & (self.len - 1)) }
    }

    /// Where the key is, or the free place where it would be.
    fn place(&mut self, key: usize) -> usize {
        let mut place = self.home(key);
        while self.at(place).key != 0 && self.at(place).key != key {
            place = (place + 1) & (self.len - 1);
        }
        place
    }

    pub(super) fn get(&mut self, key: usize) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let place = self.place(key);
        let entry = *self.at(place);
        (entry.key == key).then_some(entry.value)
    }

    /// Sets a key's value; `false`, and nothing has changed, if there is no memory.
    pub(super) fn set(&mut self, key: usize, value: usize) -> bool {
        if (self.used + 1) * 4 > self.len * 3 && !self.grow() {
            return false;
        }
        self.put(key, value);
        true
    }

    /// Sets a key, for which there is room.
    fn put(&mut self, key: usize, value: usize) {
        let place = self.place(key);
        self.used += usize::from(self.at(place).key == 0);
        *self.at(place) = Entry { key, value };
    }

    /// Takes a key out, and returns its value.
    pub(super) fn take(&mut self, key: usize) -> Option<usize> {
        let value = self.get(key)?;
        let mut hole = self.place(key);
        let mut next = hole;
        loop {
            next = (next + 1) & (self.len - 1);
            let entry = *self.at(next);
            if entry.key == 0 {
                break;
            }
            // An entry may move back to the hole unless its home lies after it.
            let from_home = next.wrapping_sub(self.home(entry.key)) & (self.len - 1);
            if from_home >= (next.wrapping_sub(hole) & (self.len - 1)) {
                *self.at(hole) = entry;
                hole = next;
            }
        }
        *self.at(hole) = Entry { key: 0, value: 0 };
        self.used -= 1;
        Some(value)
    }

    /// Calls `visit` with each key and its value.
    pub(super) fn for_each(&mut self, mut visit: impl FnMut(usize, usize)) {
        for place in 0..self.len {
            let entry = *self.at(place);
            if entry.key != 0 {
                visit(entry.key, entry.value);
            }
        }
    }

    /// Forgets all, and the memory.
    pub(super) fn clear(&mut self) {
        if let Some(entries) = NonNull::new(self.entries) {
            // SAFETY: the mapping is ours and has this length.
            unsafe { pages::unmap(entries.cast(), self.len * size_of::<Entry>()) };
        }
        *self = Self::new();
    }

    fn grow(&mut self) -> bool {
        let len = (self.len * 2).max(FIRST);
        let Some(memory) = pages::map(len * size_of::<Entry>()) else { return false };
        let mut wide = Self { entries: memory.as_ptr().cast(), len, used: 0 };
        self.for_each(|key, value| wide.put(key, value));
        self.clear();
        *self = wide;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_is_a_map() {
        let (mut ours, mut theirs, mut seed) = (Map::new(), HashMap::new(), 1usize);
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, value) = (1 + (seed >> 33) % 5000, seed >> 40);
            if seed >> 60 < 9 {
                assert!(ours.set(key * 16, value));
                theirs.insert(key * 16, value);
            } else {
                assert_eq!(ours.take(key * 16), theirs.remove(&(key * 16)));
            }
        }
        assert_eq!(ours.used, theirs.len());
        assert!(theirs.iter().all(|(key, value)| ours.get(*key) == Some(*value)));
        let mut seen = 0;
        ours.for_each(|key, value| seen += usize::from(theirs.get(&key) == Some(&value)));
        assert_eq!(seen, theirs.len());
        ours.clear();
        assert_eq!((ours.used, ours.get(16)), (0, None));
    }
}
